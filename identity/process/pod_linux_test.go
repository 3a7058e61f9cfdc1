// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity"
)

// below makes a group below another for the life of the test.
func below(t *testing.T, parent, name string) string {
	t.Helper()
	path := parent + "/" + name
	if err := os.Mkdir(mount(t)+path, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for range 100 { // its processes have just ended
			if os.Remove(mount(t)+path) == nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("cgroup %s is left", path)
	})
	return path
}

// TestMUST_I1_ThePodOfTheConnectionIsTheCgroups: where the network namespace names a pod, a
// process whose cgroup is another pod's, or none's, is nobody, and the reason says so. What
// the attestor would say of it does not matter.
func TestMUST_I1_ThePodOfTheConnectionIsTheCgroups(t *testing.T) {
	needRoot(t)
	const one, two = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
	kube := below(t, group(t, "pods"), "kubepods")
	in := func(uid string) string { return below(t, below(t, kube, "pod"+uid), "container") }
	inOne, inTwo, inNone := in(one), in(two), group(t, "no-pod")
	r := resolver(t, Options{Attestor: newFake(t)})
	l := listen(t, "tcp")
	for name, tc := range map[string]struct {
		cgroup, uid, says string // says is of the refusal; empty: accepted
	}{
		"the same pod":           {inOne, one, ""},
		"no pod is named":        {inOne, "", ""},
		"no pod, none is named":  {inNone, "", ""},
		"another pod":            {inOne, two, "is of pod " + one},
		"the other way round":    {inTwo, one, "is of pod " + two},
		"no pod":                 {inNone, one, "is no pod's"},
		"a static pod's own UID": {inOne, "0123456789abcdef0123456789abcdef", "is of pod " + one},
	} {
		t.Run(name, func(t *testing.T) {
			p := peer(t, run(t, as{uid: aliceUID, cgroup: tc.cgroup}).connect(l))
			p.Proc.PodUID = tc.uid
			c, id, err := resolve(t, r, p)
			switch {
			case tc.says == "" && (err != nil || id != alice):
				t.Errorf("got %q, %v", id, err)
			case tc.says != "" && (!errors.Is(err, identity.ErrUnknown) || !strings.Contains(err.Error(), tc.says) || c != nil):
				t.Errorf("got %q, %v; want %q", id, err, tc.says)
			}
		})
	}
}
