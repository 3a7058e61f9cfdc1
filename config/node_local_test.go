// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strings"
	"testing"
	"time"
)

// TestProcessNeedsLinux: a listener that could know nobody is refused at load.
func TestProcessNeedsLinux(t *testing.T) {
	env := podEnv()
	env.GOOS = "darwin"
	_, faults := LoadNode(copyInto(t, newFolder(t), "testdata/good/node-process-embedded.yaml"), env)
	if len(faults) != 1 || faults[0].Path != "listeners[0].identify.process" || !strings.Contains(faults[0].Rule, "Linux") {
		t.Errorf("got %v", faults)
	}
}

// TestKubernetesTokenDefaults are those of a pod.
func TestKubernetesTokenDefaults(t *testing.T) {
	var k KubernetesToken
	k.setDefaults()
	want := KubernetesToken{
		Server: "https://kubernetes.default.svc", Age: 30 * time.Second,
		CA:        "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
		TokenFile: "/var/run/secrets/kubernetes.io/serviceaccount/token",
	}
	if k != want {
		t.Errorf("got %+v", k)
	}
}
