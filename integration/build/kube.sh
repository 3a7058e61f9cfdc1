#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds kube-apiserver of one version from its Go module into .cache/kube/VERSION at the
# top of the project and prints that folder. It does nothing where it is there already.
# The first build takes about 10 CPU minutes. Its etcd is Debian's (etcd-server).
set -eu

version=v1.36.1
staging=v0.36.1
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/.cache/kube/$version
if [ -x "$out/kube-apiserver" ]; then
	echo "$out"
	exit 0
fi

mkdir -p "$out/module"
cd "$out/module"
export GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0
# Its own requirements and sums, so that what is built is what its authors test. Its
# staging modules are published under versions of their own.
rm -f go.mod go.sum
printf 'module kubetools\n\ngo 1.26.0\n' >go.mod
go mod download "k8s.io/kubernetes@$version"
source=$(go env GOMODCACHE)/k8s.io/kubernetes@$version
{
	printf 'module kubetools\n\ngo 1.26.0\n\nrequire k8s.io/kubernetes %s\n\n' "$version"
	sed -n '/^require/,$p' "$source/go.mod" |
		sed -e "s,^\(\tk8s.io/[a-z-]*\) v0\.0\.0$,\1 $staging," -e "s,=> \./staging/src/\(k8s.io/[a-z-]*\)$,=> \1 $staging,"
} >go.mod
cp "$source/go.sum" go.sum
chmod u+w go.sum
cat >main.go <<'END'
// Package main is kube-apiserver and nothing else of Kubernetes.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
END

bin=$(mktemp -d "$out/bin.XXXXXX")
nice -n 19 go build -p "${BUILD_JOBS:-1}" -trimpath -buildvcs=false -ldflags "-s -w \
	-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" \
	-o "$bin/kube-apiserver" .
mv "$bin/kube-apiserver" "$out/"
rmdir "$bin"
echo "$out"
