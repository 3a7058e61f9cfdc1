#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds versitygw, an S3 server that checks SigV4 as the real one does, of one version
# from its Go module into .cache/versitygw/VERSION at the top of the project and prints
# that folder. It does nothing where it is there already. The first build takes about
# 2 CPU minutes.
set -eu

version=v1.8.0
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/.cache/versitygw/$version
if [ -x "$out/versitygw" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$out/module"
cd "$out/module"
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
# Its own requirements and sums, so that what is built is what its authors test.
rm -f go.mod go.sum
printf 'module versitygwtools\n\ngo 1.26\n' >go.mod
go mod download "github.com/versity/versitygw@$version"
source=$(go env GOMODCACHE)/github.com/versity/versitygw@$version
{
	printf 'module versitygwtools\n\ngo 1.26\n\nrequire github.com/versity/versitygw %s\n\n' "$version"
	sed -n '/^require/,$p' "$source/go.mod"
	printf '\ntool github.com/versity/versitygw/cmd/versitygw\n'
} >go.mod
cp "$source/go.sum" go.sum
chmod u+w go.sum

bin=$(mktemp -d "$out/bin.XXXXXX")
nice -n 19 go build -p "${BUILD_JOBS:-1}" -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/" \
	github.com/versity/versitygw/cmd/versitygw
mv "$bin/versitygw" "$out/"
rmdir "$bin"
echo "$out"
