// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package cri tests egret steer beside a real container runtime: containerd makes pods with
// runc and the CNI plugins, as a kubelet would have it do, and egret captures those that it
// finds there. Build tag: integration. It needs root.
package cri
