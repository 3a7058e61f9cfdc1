#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds spire-server and spire-agent of one version from their Go modules into
# .cache/spire/VERSION at the top of the project and prints that folder. It does
# nothing where they are there already. The first build takes about 15 CPU minutes
# and needs a C compiler (the server's sqlite3).
set -eu

version=v1.15.2
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/.cache/spire/$version
if [ -x "$out/spire-server" ] && [ -x "$out/spire-agent" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$out/module"
cd "$out/module"
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=1
# SPIRE's own requirements and sums, so that what is built is what its authors test.
# One of its dependencies is at a commit that proxies no longer have; the next release
# of it holds the same code.
rm -f go.mod go.sum
printf 'module spiretools\n\ngo 1.26.4\n' >go.mod
go mod download "github.com/spiffe/spire@$version"
source=$(go env GOMODCACHE)/github.com/spiffe/spire@$version
{
	printf 'module spiretools\n\ngo 1.26.4\n\nrequire github.com/spiffe/spire %s\n\n' "$version"
	sed -n '/^require/,$p' "$source/go.mod"
	printf '\ntool github.com/spiffe/spire/cmd/spire-server\n'
	printf 'tool github.com/spiffe/spire/cmd/spire-agent\n'
	printf 'replace github.com/Keyfactor/ejbca-go-client-sdk => github.com/Keyfactor/ejbca-go-client-sdk v1.0.2\n'
} >go.mod
cp "$source/go.sum" go.sum
chmod u+w go.sum

bin=$(mktemp -d "$out/bin.XXXXXX")
nice -n 19 go build -p "${SPIRE_BUILD_JOBS:-1}" -ldflags '-s -w' -o "$bin/" \
	github.com/spiffe/spire/cmd/spire-server github.com/spiffe/spire/cmd/spire-agent
mv "$bin/spire-server" "$bin/spire-agent" "$out/"
rmdir "$bin"
echo "$out"
