// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package daemonset holds the DaemonSet example to the loader, and its manifest to what is
// said about it.
package daemonset

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/examples/internal/pod"
)

// The settings load in the node's network, with a real CA and the policy of the local
// example.
func TestSettingsLoad(t *testing.T) {
	dir := pod.Lay(t)
	pod.Load(t, dir, pod.Env(true))
	pod.Mounted(t, dir, "daemonset.yaml")
}

// container is the part of the manifest between the name of a container and the next.
func container(t *testing.T, manifest, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(manifest, "\n        - name: "+name+"\n")
	if !found {
		t.Fatalf("no container %q", name)
	}
	for _, end := range []string{"\n        - name: ", "\n      containers:", "\n      volumes:"} {
		rest, _, _ = strings.Cut(rest, end)
	}
	return rest
}

// TestMUST_P1_PrivilegesOfTheManifest: who holds credentials has no privilege, who has
// privileges mounts no credential, and the two find each other.
func TestMUST_P1_PrivilegesOfTheManifest(t *testing.T) {
	text, err := os.ReadFile("daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	egret, steer, plugin := container(t, string(text), "egret"), container(t, string(text), "steer"), container(t, string(text), "plugin")
	for part, wants := range map[string][]string{
		egret:  {"runAsNonRoot: true", "runAsUser: 64535", "capabilities: {drop: [ALL]}\n", "readOnlyRootFilesystem: true", "mountPath: /etc/egret", "mountPath: /run/egret-steer", "mountPath: /sys/fs/cgroup"},
		steer:  {`--user, "64535"`, "capabilities: {drop: [ALL], add: [SYS_ADMIN, NET_ADMIN]}\n", "privileged: false", "mountPath: /run/egret-steer", "mountPropagation: HostToContainer"},
		plugin: {"capabilities: {drop: [ALL]}\n", "/opt/cni/bin/egret-cni"},
	} {
		for _, want := range append(wants, "allowPrivilegeEscalation: false", "seccompProfile: {type: RuntimeDefault}") {
			if !strings.Contains(part, want) {
				t.Errorf("%q is missing in:\n%s", want, part)
			}
		}
	}
	for _, secret := range []string{"settings", "spire", "/etc/egret,"} {
		if strings.Contains(steer+plugin, "name: "+secret) {
			t.Errorf("%s is mounted where there are privileges", secret)
		}
	}
	settings, err := os.ReadFile("egret.yaml")
	if err != nil || !strings.Contains(string(settings), "address: steer:///run/egret-steer/steer.sock") {
		t.Errorf("%v: egret.yaml does not name the socket of egret steer", err)
	}
}

// TestMUST_P1_TheRuntimesSocketIsForSteer: the patch meets the container that it is meant for,
// and without the patch nobody has the socket.
func TestMUST_P1_TheRuntimesSocketIsForSteer(t *testing.T) {
	manifest, err1 := os.ReadFile("daemonset.yaml")
	patch, err2 := os.ReadFile("cri.yaml")
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	_, containers, _ := strings.Cut(string(manifest), "\n      containers:")
	if !strings.HasPrefix(containers, "\n        - name: steer\n") || strings.Contains(string(manifest), "containerd.sock") {
		t.Error("steer is not the first container, or the socket is mounted by default")
	}
	for line := range strings.Lines(string(patch)) {
		if !strings.HasPrefix(line, "#") && strings.Contains(line, "/containers/") && !strings.Contains(line, "/containers/0/") {
			t.Errorf("it is for another container: %s", line)
		}
	}
	for _, want := range []string{"value: --cri}", `value: "unix:///run/containerd/containerd.sock"}`, "mountPath: /run/containerd, readOnly: true}", "hostPath: {path: /run/containerd, type: Directory}"} {
		if !strings.Contains(string(patch), want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestConflist(t *testing.T) {
	text, err := os.ReadFile("egret.conflist")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		CNIVersion string
		Plugins    []struct{ Type, Control string }
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	last := list.Plugins[len(list.Plugins)-1]
	if last.Type != "egret-cni" || last.Control != "/run/egret-steer/control.sock" {
		t.Errorf("the last plugin is %+v", last)
	}
}
