// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestNetNSOfRealRuntimes: the answers of containerd were recorded, that of CRI-O is
// written as its server/sandbox_status.go does.
func TestNetNSOfRealRuntimes(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"containerd-1.6.json":      "/var/run/netns/cni-b6ff4730-a943-bf33-4d7c-bc8c53b911d3",
		"containerd-2.2.json":      "/var/run/netns/cni-a6ca19b0-5372-3eb2-b3b2-2c60783599dd",
		"containerd-1.6-host.json": "",
		"containerd-2.2-host.json": "",
		"cri-o.json":               "/var/run/netns/0c4f35d7-54d5-4b1b-92c5-93d4b2d3f5b3",
	} {
		text, err := os.ReadFile(filepath.Join("testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		if got := netNS(text); got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
		closed := strings.Replace(string(text), `"netNamespaceClosed":false`, `"netNamespaceClosed":true`, 1)
		if got := netNS([]byte(closed)); got != "" && closed != string(text) {
			t.Errorf("%s: %q, and it is closed", file, got)
		}
	}
}

func spec(namespaces string) string {
	return `{"runtimeSpec":{"linux":{"namespaces":[` + namespaces + `]}}}`
}

func TestNetNS(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         "",
		"{":                        "",
		"null":                     "",
		`{"runtimeSpec":null}`:     "",
		spec(""):                   "",
		spec(`{"type":"network"}`): "", // one that runc makes: it has no name
		spec(`{"type":"network","path":"/run/netns/a"}`):                                          "/run/netns/a",
		spec(`{"type":"network","path":"run/netns/a"}`):                                           "",
		spec(`{"type":"network","path":"/run/netns/../../proc/1/ns/net"}`):                        "",
		spec(`{"type":"mount","path":"/x"},{"type":"network","path":"/run/netns/a"}`):             "/run/netns/a",
		spec(`{"type":"network","path":"/run/netns/a"},{"type":"network","path":"/run/netns/b"}`): "",
	} {
		if got := netNS([]byte(text)); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// FuzzNetNS: a path is absolute, has no detours, and was said of a network namespace.
func FuzzNetNS(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(spec(`{"type":"network","path":"/a"},{"type":"network","path":"/b"}`)))
	f.Fuzz(func(t *testing.T, text []byte) {
		got := netNS(text)
		if got == "" {
			return
		}
		if !path.IsAbs(got) || path.Clean(got) != got || !json.Valid(text) {
			t.Errorf("%q", got)
		}
		var i info
		if err := json.Unmarshal(text, &i); err != nil || i.NetNSClosed {
			t.Errorf("%v, %+v", err, i)
		}
	})
}

func TestDoubt(t *testing.T) {
	t.Parallel()
	meta := &api.PodSandboxMetadata{Name: "job", Namespace: "qa", Uid: "u"}
	for name, tc := range map[string]struct {
		labels map[string]string
		meta   *api.PodSandboxMetadata
		says   string
	}{
		"a kubelet's":  {map[string]string{labelName: "job", labelNamespace: "qa", labelUID: "u", "app": "x"}, meta, ""},
		"none":         {nil, meta, "lacks the label " + labelName},
		"without UID":  {map[string]string{labelName: "job", labelNamespace: "qa"}, meta, "lacks the label " + labelUID},
		"another name": {map[string]string{labelName: "admin", labelNamespace: "qa", labelUID: "u"}, meta, `is "admin", and it was made as "job"`},
		"another UID":  {map[string]string{labelName: "job", labelNamespace: "qa", labelUID: "v"}, meta, `is "v", and it was made as "u"`},
		"no metadata":  {map[string]string{labelName: "job", labelNamespace: "qa", labelUID: "u"}, nil, "lacks the label"},
	} {
		err := doubt(tc.labels, tc.meta)
		if tc.says == "" && err != nil || tc.says != "" && (err == nil || !strings.Contains(err.Error(), tc.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
