// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"fmt"
	"path"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Sandbox is a pod, as the runtime tells of it: the word of the kubelet, which has made it.
// There is no service account in it.
type Sandbox struct {
	ID    string
	Ready bool

	UID, Namespace, Name string // of the Kubernetes pod
	// Doubt is why it is not certain which pod this is; nil: it is certain. Its labels are not
	// a kubelet's, or at odds with what the sandbox was made as.
	Doubt error

	HostNetwork bool
	NetNS       string // path of its network namespace; empty: the runtime does not tell
}

// Labels that the kubelet gives every sandbox.
const (
	labelName      = "io.kubernetes.pod.name"
	labelNamespace = "io.kubernetes.pod.namespace"
	labelUID       = "io.kubernetes.pod.uid"
)

func sandboxOf(m *api.PodSandboxStatusResponse) Sandbox {
	s, meta := m.GetStatus(), m.GetStatus().GetMetadata()
	options := s.GetLinux().GetNamespaces().GetOptions()
	return Sandbox{
		ID: s.GetId(), Ready: s.GetState() == api.PodSandboxState_SANDBOX_READY,
		UID: meta.GetUid(), Namespace: meta.GetNamespace(), Name: meta.GetName(),
		Doubt:       doubt(s.GetLabels(), meta),
		HostNetwork: options.GetNetwork() == api.NamespaceMode_NODE,
		NetNS:       netNS([]byte(m.GetInfo()["info"])),
	}
}

func doubt(labels map[string]string, meta *api.PodSandboxMetadata) error {
	for _, x := range []struct{ label, want string }{{labelName, meta.GetName()}, {labelNamespace, meta.GetNamespace()}, {labelUID, meta.GetUid()}} {
		switch got := labels[x.label]; {
		case got == "" || x.want == "":
			return fmt.Errorf("it is no pod of a kubelet: it lacks the label %s, or what that should say", x.label)
		case got != x.want:
			return fmt.Errorf("its label %s is %q, and it was made as %q", x.label, got, x.want)
		}
	}
	return nil
}

// info is what is looked at of the verbose answer's "info", which containerd and CRI-O
// write alike: the OCI runtime specification of the sandbox.
type info struct {
	NetNSClosed bool `json:"netNamespaceClosed"` // containerd
	RuntimeSpec struct {
		Linux struct {
			Namespaces []struct {
				Type string `json:"type"`
				Path string `json:"path"`
			} `json:"namespaces"`
		} `json:"linux"`
	} `json:"runtimeSpec"`
}

// netNS finds the path of the network namespace. Empty: it is not told, or is gone. A
// relative path, and a second one, are not what a runtime writes.
func netNS(text []byte) (found string) {
	var i info
	if json.Unmarshal(text, &i) != nil || i.NetNSClosed {
		return ""
	}
	for _, n := range i.RuntimeSpec.Linux.Namespaces {
		if n.Type != "network" {
			continue
		}
		if found != "" || !path.IsAbs(n.Path) || path.Clean(n.Path) != n.Path {
			return ""
		}
		found = n.Path
	}
	return found
}
