// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster applies the manifests of examples/ to a Kubernetes cluster of one node:
// etcd, the control plane, a kubelet, containerd and SPIRE, with nothing of the machine but
// its kernel. The node has namespaces of its own for everything, and its own /run, /etc,
// /var and /opt over the machine's; it ends, with all its pods, when its first process ends.
//
// What is applied is what the READMEs of the examples tell people to make, by kubectl and
// kustomize. What a test must change is in an overlay of its own, with the reason.
//
// It is run by integration/run.
package cluster
