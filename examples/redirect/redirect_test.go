// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package redirect holds the redirect example to the loader.
package redirect

import (
	"path/filepath"
	"testing"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/examples/internal/pod"
)

// The settings load in a pod, with a real CA and the policy of the local example, and
// are refused where the pod shares the host's network.
func TestSettingsLoad(t *testing.T) {
	dir := pod.Lay(t)
	pod.Load(t, dir, pod.Env(false))
	pod.Mounted(t, dir, "pod.yaml")
	if _, faults := config.LoadNode(filepath.Join(dir, "egret.yaml"), pod.Env(true)); len(faults) != 2 || faults[0].Path != "listeners[0].identify.sidecar" {
		t.Errorf("in the host's network: %v", faults)
	}
}
