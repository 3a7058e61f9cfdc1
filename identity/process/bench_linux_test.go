// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/internal/sockopt"
)

func BenchmarkLookup(b *testing.B) {
	f := newFake(b)
	f.watch = func(ctx context.Context, _ Reference, update func([]*x509svid.SVID) error) error {
		_ = update(f.mint(b, time.Hour, alice))
		<-ctx.Done()
		return ctx.Err()
	}
	r, err := New(Options{Attestor: f, TrustDomains: []spiffeid.TrustDomain{td}, Cgroups: cgroups(b), RootCgroup: true})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	l := listen(b, "tcp")
	mine, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer mine.Close()
	c, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	g, err := sockopt.OpenDiag()
	if err != nil {
		b.Fatal(err)
	}
	defer g.Close()
	b.ReportAllocs()
	took := make([]time.Duration, 0, 1<<20)
	for b.Loop() {
		begin := time.Now()
		facts, err := g.PeerFacts(c)
		if err != nil {
			b.Fatal(err)
		}
		caller, err := r.Resolve(b.Context(), identity.Peer{Proc: &identity.Process{UID: facts.UID, Cgroup: facts.Cgroup, PIDFD: -1}})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := caller.Workload(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}

func BenchmarkWorkload(b *testing.B) {
	f := newFake(b)
	s := &session{}
	s.answer.Store(&answer{svids: f.mint(b, time.Hour, alice)})
	c := &caller{s: s, id: alice}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Workload(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAnchor(b *testing.B) {
	c, err := kernel.FindCgroups()
	if err != nil {
		b.Skip(err)
	}
	self, err := kernel.Open(os.Getpid())
	if err != nil {
		b.Fatal(err)
	}
	defer self.Close()
	f, err := self.Facts()
	if err != nil {
		b.Fatal(err)
	}
	s := newSession(&Resolver{options: Options{Cgroups: c}, ctx: b.Context()}, key{cgroup: f.Cgroup, uid: f.UID}, nil)
	defer s.cancel()
	for b.Loop() {
		ref, err := s.anchor()
		if err != nil {
			b.Fatal(err)
		}
		ref.Process.Close()
	}
}
