#!/bin/sh
# SPDX-FileCopyrightText: The egret authors
# SPDX-License-Identifier: Apache-2.0

# Builds the programs of Kubernetes of one version from its Go module into
# .cache/kube/VERSION at the top of the project and prints that folder. It does nothing
# where they are there already. The first build takes about 15 CPU minutes. They are one
# binary under several names, which is a third of the time and size of several. etcd,
# containerd, runc and the CNI plugins are Debian's.
set -eu

version=v1.36.1
staging=v0.36.1
top=$(cd "$(dirname "$0")/../.." && pwd)
out=$top/.cache/kube/$version
programs="kube-apiserver kube-controller-manager kube-scheduler kubelet kubectl"
if [ -x "$out/kubernetes" ]; then
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
// Package main is the programs of Kubernetes, each under its own name.
package main

import (
	"context"
	"os"
	"path/filepath"
	_ "time/tzdata" // CronJobs have time zones

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func main() {
	programs := map[string]func() *cobra.Command{
		"kube-apiserver":          apiserver.NewAPIServerCommand,
		"kube-controller-manager": manager.NewControllerManagerCommand,
		"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
		"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
		"kubectl":                 kubectl.NewDefaultKubectlCommand,
	}
	name := filepath.Base(os.Args[0])
	if programs[name] == nil {
		println(name + " is no program of Kubernetes that is in here")
		os.Exit(2)
	}
	os.Exit(cli.Run(programs[name]()))
}
END

bin=$(mktemp -d "$out/bin.XXXXXX")
nice -n 19 go build -p "${BUILD_JOBS:-1}" -trimpath -buildvcs=false -ldflags "-s -w \
	-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36" \
	-o "$bin/kubernetes" .
for program in $programs; do
	ln -sf kubernetes "$bin/$program"
done
mv -f "$bin"/* "$out/"
rmdir "$bin"
echo "$out"
