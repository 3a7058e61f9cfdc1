// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package kube holds what egret does with a Kubernetes API server to a real one, with its
// etcd, RBAC and service-account tokens: `go test -tags integration ./integration/kube`.
// The first run builds kube-apiserver (integration/build/kube.sh), which takes about 10 CPU
// minutes; etcd is Debian's. No node runs: pods are objects that tokens are bound to.
package kube
