// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"testing"
)

// bigSet has n policies: n/10 workloads of ten rules each, half of them by pattern.
func bigSet(n int) Set {
	d := &Destination{Name: "slack", Hosts: []string{"slack.com"}, Ports: []uint16{443}, Intercept: true}
	s := Set{Destinations: []*Destination{d}}
	for i := range max(1, n/10) {
		w := &Workload{Name: fmt.Sprint("w", i), Evidence: []string{evidence}}
		pattern := fmt.Sprintf("spiffe://acme.example/ns/n%d/sa/job", i)
		if i%2 == 1 {
			pattern = fmt.Sprintf("spiffe://acme.example/ns/n%d/sa/*", i)
		}
		s.Bindings = append(s.Bindings, Binding{pattern, w})
		for j := range min(n, 10) {
			s.Rules = append(s.Rules, &Rule{Policy: fmt.Sprint("p", i, "-", j), Workload: w, Destination: d,
				PathTemplate: fmt.Sprintf("/api/v%d/*/items/**", j), Methods: []string{"GET", "POST"}, Expires: later})
		}
	}
	return s
}

func bigRequest(i int) Request {
	return Request{ID: id(fmt.Sprintf("/ns/n%d/sa/job", i)), Evidence: evidence, Target: at("slack.com"), Method: "POST", Path: "/api/v0/team%20a/items/7", At: now}
}

func TestDecisionsDoNotAllocate(t *testing.T) {
	p := New(bigSet(1000))
	for i := range 2 { // an exact ID and a pattern
		r := bigRequest(i)
		if p.Request(r).Verdict != Allow {
			t.Fatalf("denied: %+v", p.Explain(r))
		}
		refused := r
		refused.Path = "/api/v0/team/else"
		for name, f := range map[string]func(){
			"Request":         func() { p.Request(r) },
			"refused Request": func() { p.Request(refused) },
			"Connect":         func() { p.Connect(r.ID, r.Evidence, r.Target, r.At) },
		} {
			r.Path = "/api/v0/team/items/7"
			if n := testing.AllocsPerRun(100, f); n != 0 {
				t.Errorf("%s of workload %d allocates %v times", name, i, n)
			}
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	for _, n := range []int{1, 1000, 50000} {
		b.Run(fmt.Sprintf("policies=%d", n), func(b *testing.B) {
			p, r := New(bigSet(n)), bigRequest(0)
			r.Path = "/api/v0/team/items/7"
			b.ReportAllocs()
			for b.Loop() {
				if p.Request(r).Verdict != Allow {
					b.Fatal("denied")
				}
			}
		})
	}
}

func BenchmarkConnect(b *testing.B) {
	p, r := New(bigSet(50000)), bigRequest(1)
	b.ReportAllocs()
	for b.Loop() {
		if p.Connect(r.ID, r.Evidence, r.Target, r.At).Verdict != Allow {
			b.Fatal("denied")
		}
	}
}

// credentialed is bigSet with a credential, so that the minting guard looks on.
func credentialed(n int) Set {
	s := bigSet(n)
	bot := &Credential{Name: "bot"}
	for _, r := range s.Rules {
		r.Credential = bot
	}
	return s
}

func TestGuardedDecisionsDoNotAllocate(t *testing.T) {
	p, r := New(credentialed(1000)), bigRequest(0)
	r.Path = "/api/v0/team/items/7"
	if p.Request(r).Verdict != Allow {
		t.Fatalf("denied: %+v", p.Explain(r))
	}
	if n := testing.AllocsPerRun(100, func() { p.Request(r) }); n != 0 {
		t.Errorf("allocates %v times", n)
	}
}

func BenchmarkGuardedRequest(b *testing.B) {
	p, r := New(credentialed(50000)), bigRequest(0)
	r.Path = "/api/v0/team/items/7"
	b.ReportAllocs()
	for b.Loop() {
		if p.Request(r).Verdict != Allow {
			b.Fatal("denied")
		}
	}
}
