// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Of a captured connection without a name only an address that is listed, or unlisted
// hosts where they pass, lead on; a name or an address that is listed otherwise never does.
func TestConnectAddress(t *testing.T) {
	id := spiffeid.RequireFromString("spiffe://acme.example/app")
	w := &Workload{Name: "app", Evidence: []string{"sidecar"}}
	mail := &Destination{Name: "mail", Hosts: []string{"192.0.2.25"}, Ports: []uint16{25}}
	web := &Destination{Name: "web", Hosts: []string{"api.example.com", "192.0.2.80"}, Ports: []uint16{443}, Intercept: true}
	set := Set{
		Bindings: []Binding{{Pattern: id.String(), Workload: w}}, Destinations: []*Destination{mail, web},
		Tunnels: []*Rule{{Policy: "mail", Workload: w, Destination: mail, Expires: time.Now().Add(time.Hour)}},
	}
	closed := New(set)
	set.UnlistedTunnel = true
	open := New(set)
	for _, x := range []struct {
		host         string
		port         uint16
		closed, open Reason // empty: a tunnel
	}{
		{"192.0.2.25", 25, "", ""},
		{"192.0.2.25", 587, ReasonUnlistedHost, ReasonUnlistedHost}, // listed, on another port
		{"192.0.2.80", 443, ReasonUnlistedHost, ReasonUnlistedHost}, // intercepted, which an address cannot be
		{"192.0.2.99", 22, ReasonUnlistedHost, ""},
		{"2001:db8::1", 22, ReasonUnlistedHost, ""},
		{"192.0.2.99", 0, ReasonUnlistedHost, ReasonUnlistedHost},
	} {
		for p, want := range map[*Policy]Reason{closed: x.closed, open: x.open} {
			a := p.ConnectAddress(id, "sidecar", Target{Host: x.host, Port: x.port}, time.Now())
			if a.Reason != want || (a.Verdict == Tunnel) != (want == "") || a.Verdict == Allow {
				t.Errorf("%s:%d (unlisted: %v): %+v; want %q", x.host, x.port, p == open, a, want)
			}
		}
	}
	if a := open.ConnectAddress(id, "process", Target{Host: "192.0.2.99", Port: 22}, time.Now()); a.Reason != ReasonWeakEvidence {
		t.Errorf("weak evidence: %+v", a)
	}
	if a := open.ConnectAddress(spiffeid.RequireFromString("spiffe://acme.example/x"), "sidecar", Target{Host: "192.0.2.99", Port: 22}, time.Now()); a.Reason != ReasonUnknownWorkload {
		t.Errorf("a stranger: %+v", a)
	}
	if !open.Intercepts(443) || open.Intercepts(25) || (*Policy)(nil).Intercepts(443) {
		t.Error("Intercepts")
	}
	if a := (*Policy)(nil).ConnectAddress(id, "sidecar", Target{Host: "192.0.2.99", Port: 22}, time.Now()); a.Verdict != Deny {
		t.Errorf("without policy: %+v", a)
	}
}
