// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package spire

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestEgretRun: the program itself, with callers of three users through one listener for
// each API of the agent. The agent restarts, and an entry is deleted.
func TestEgretRun(t *testing.T) {
	w := newWorld(t)
	entry := w.entry(alice, uidSelector(aliceUID))
	w.entry(bob, uidSelector(bobUID))
	s := w.egret(setup{}).await()
	one, two := run(t, aliceUID, group(t, "run-one")), run(t, bobUID, group(t, "run-two"))
	stranger := run(t, carolUID, group(t, "run-three"))
	listeners := []string{"delegated", "broker"}
	for _, l := range listeners {
		s.becomes(one, l, "200 ")
		s.becomes(two, l, "policy; reason=no_policy")
		if got := s.get(stranger, l); !strings.Contains(got, "identity/svid_revoked") {
			t.Errorf("%s: a user without an entry: %s", l, got)
		}
		at, process := `"listener":"`+l+`"`, `"evidence":"process"`
		w.await("the records of "+l, func() bool {
			return s.Recorded(at, process, `"workload":"`+alice.String()+`"`, `"verdict":"allow"`) &&
				s.Recorded(at, process, `"workload":"`+bob.String()+`"`, `"reason":"no_policy"`) &&
				s.Recorded(at, `"reason":"svid_revoked"`, fmt.Sprint(carolUID))
		})
	}
	w.stop(&w.agent)
	for _, l := range listeners {
		if got := s.get(one, l); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: while the agent is away: %s", l, got)
		}
	}
	w.startAgent()
	late := run(t, aliceUID, group(t, "run-four"))
	for _, l := range listeners {
		if got := s.get(one, l); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: after the agent's restart: %s", l, got)
		}
		s.becomes(late, l, "200 ")
	}
	w.remove(entry)
	begin := time.Now()
	for _, l := range listeners {
		s.becomes(one, l, "identity/svid_revoked")
		t.Logf("%s: refused within %v of the entry's end", l, time.Since(begin).Round(time.Millisecond))
		s.becomes(late, l, "identity/svid_revoked")
		s.becomes(two, l, "policy; reason=no_policy")
	}
}
