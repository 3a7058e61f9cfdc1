// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"strings"
	"testing"
)

func TestPodUID(t *testing.T) {
	const uid = "0f4c1b52-6f1a-4b7e-9d0c-1a2b3c4d5e6f"
	under := strings.ReplaceAll(uid, "-", "_")
	const other = "11111111-2222-3333-4444-555555555555"
	tests := map[string]string{
		"/kubepods/burstable/pod" + uid + "/abc": uid,
		"/kubepods/pod" + uid + "/abc":           uid,
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod" + under + ".slice/cri-a.scope": uid,
		"/kubepods.slice/kubepods-pod" + under + ".slice/cri-a.scope":                                    uid,
		"/kubelet/kubepods/besteffort/pod" + uid + "/abc":                                                uid,
		"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod" + under + ".slice/a.scope":          uid,
		// A container names what is below it.
		"/kubepods/pod" + uid + "/abc/kubepods/pod" + other + "/x": uid,
		"/kubepods/podx/pod" + uid:                                 "",
		"/user.slice/pod" + uid:                                    "",
		"/system.slice/a.service/pod" + uid:                        "",
		"/kubepods/pod" + strings.ToUpper(uid):                     "",
		"/kubepods/pod" + strings.ReplaceAll(uid, "-", ""):         "",
		"/kubepods": "",
		"/":         "",
		"":          "",
	}
	for cgroup, want := range tests {
		if got, _ := podUID(cgroup); got != want {
			t.Errorf("%s: got %q, want %q", cgroup, got, want)
		}
	}
}

// FuzzPodUID: what a container puts below its own group changes nothing.
func FuzzPodUID(f *testing.F) {
	f.Add("kubepods/pod11111111-2222-3333-4444-555555555555")
	f.Add("x.slice/../..")
	const pod = "/kubepods/burstable/pod0f4c1b52-6f1a-4b7e-9d0c-1a2b3c4d5e6f"
	f.Fuzz(func(t *testing.T, below string) {
		uid, group := podUID(pod + "/" + below)
		if want, _ := podUID(pod); uid != want || group != pod {
			t.Errorf("%q: got %q of %q", below, uid, group)
		}
		if got, group := podUID(below); got != "" && !strings.HasPrefix(below, group) {
			t.Errorf("%q: %q is not above it", below, group)
		}
		if got, _ := podUID(below); got != "" && !strings.Contains(below, "kubepods") {
			t.Errorf("%q: got %q", below, got)
		}
	})
}
