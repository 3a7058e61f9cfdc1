#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds Vault of one version from its Go module into .cache/vault/VERSION at the top of
# the project and prints that folder. It does nothing where it is there already. The
# first build takes about 14 CPU minutes.
#
# It is Vault's own "minimal" edition (auth: approle, cert, jwt, userpass; engines: kv,
# pki, ssh, transit, database) with two plugins added that make leases: the engine aws
# and the database plugin postgresql. The full edition holds forty more
# and does nothing else differently.
set -eu

version=v1.21.0
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/.cache/vault/$version
if [ -x "$out/vault" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$out"
cd "$out"
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
go mod download "github.com/hashicorp/vault@$version"
source=$(go env GOMODCACHE)/github.com/hashicorp/vault@$version
# A copy, since its registry of plugins is an unexported type of one package.
rm -rf "$out/module"
mkdir -p "$out/module"
(cd "$source" && tar -cf - --exclude=./ui/app --exclude=./ui/tests --exclude=./enos --exclude=./website .) | tar -xf - -C "$out/module"
chmod -R u+w "$out/module"
cd "$out/module"
# Its submodules are not in the module: those that it requires by version.
sed -i '/=> \.\//d' go.mod
cat >helper/builtinplugins/registry_min.go <<'END'
//go:build minimal

package builtinplugins

import (
	logicalAws "github.com/hashicorp/vault/builtin/logical/aws"
	dbPostgres "github.com/hashicorp/vault/plugins/database/postgresql"
)

func extendAddonPlugins(r *registry) {
	r.logicalBackends["aws"] = logicalBackend{Factory: logicalAws.Factory}
	r.databasePlugins["postgresql-database-plugin"] = databasePlugin{Factory: dbPostgres.New}
}
END

bin=$(mktemp -d "$out/bin.XXXXXX")
nice -n 19 go build -tags minimal -p "${BUILD_JOBS:-1}" -trimpath -buildvcs=false -ldflags '-s -w' -o "$bin/vault" .
mv "$bin/vault" "$out/"
rmdir "$bin"
rm -rf "$out/module"
echo "$out"
