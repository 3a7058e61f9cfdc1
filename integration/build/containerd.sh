#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds a containerd that tells events to everybody who asks (Debian's does not) from its
# Go module into .cache/containerd/VERSION at the top of the project and prints that folder.
# It does nothing where it is there already. The first build takes about 4 CPU minutes.
set -eu

version=v2.2.0
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/.cache/containerd/$version
if [ -x "$out/containerd" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$out/module"
cd "$out/module"
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
path=github.com/containerd/containerd/v2
# Its own requirements and sums, so that what is built is what its authors test.
rm -f go.mod go.sum
printf 'module containerdtools\n\ngo 1.26.0\n' >go.mod
go mod download "$path@$version"
source=$(go env GOMODCACHE)/$path@$version
{
	printf 'module containerdtools\n\ngo 1.26.0\n\nrequire %s %s\n\n' "$path" "$version"
	sed -n '/^require/,$p' "$source/go.mod"
	printf '\ntool (\n\t%s/cmd/containerd\n\t%s/cmd/containerd-shim-runc-v2\n)\n' "$path" "$path"
} >go.mod
cp "$source/go.sum" go.sum
chmod u+w go.sum

bin=$(mktemp -d "$out/bin.XXXXXX")
nice -n 19 go build -p "${BUILD_JOBS:-1}" -trimpath -buildvcs=false -ldflags "-s -w -X $path/version.Version=$version" \
	-o "$bin/" "$path/cmd/containerd-shim-runc-v2" "$path/cmd/containerd"
mv "$bin/containerd-shim-runc-v2" "$bin/containerd" "$out/"
rmdir "$bin"
echo "$out"
