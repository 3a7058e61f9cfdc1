// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestIdentityDoesNotBecomeAnother(t *testing.T) {
	f := newFake(t)
	now := make(chan []spiffeid.ID)
	f.watch = func(ctx context.Context, _ Reference, update func([]*x509svid.SVID) error) error {
		_ = update(f.mint(t, time.Hour, alice))
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case ids := <-now:
				_ = update(f.mint(t, time.Hour, ids...))
			}
		}
	}
	r := resolver(t, Options{Attestor: f})
	p := run(t, as{uid: aliceUID, cgroup: group(t, "become")})
	l := listen(t, "tcp")
	c := wantID(t, r, p.connect(l), alice)
	now <- []spiffeid.ID{bob}
	eventually(t, "revoked", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrRevoked) })
	wantID(t, r, p.connect(l), bob)
	now <- nil
	eventually(t, "nothing", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrRevoked) })
}

func TestAttestorAway(t *testing.T) {
	f := newFake(t)
	var asked atomic.Int32
	f.watch = func(_ context.Context, _ Reference, update func([]*x509svid.SVID) error) error {
		if asked.Add(1) == 1 {
			_ = update(f.mint(t, 2*time.Second, alice))
		}
		return errors.New("connection refused")
	}
	r := resolver(t, Options{Attestor: f})
	p := run(t, as{uid: aliceUID, cgroup: group(t, "away")})
	c := wantID(t, r, p.connect(listen(t, "tcp")), alice)
	eventually(t, "it is asked again", func() bool { return asked.Load() > 2 })
	if _, err := c.Workload(); err != nil {
		t.Errorf("while away: %v", err)
	}
	eventually(t, "expired", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrExpired) })
}

func TestAttestorWasNeverThere(t *testing.T) {
	f := newFake(t)
	for name, err := range map[string]error{
		"away":                   fmt.Errorf("%w: no such socket", identity.ErrUnavailable),
		"does not see it":        fmt.Errorf("%w: no such process", identity.ErrGone),
		"breaks off":             nil,
		"says something unknown": errors.New("odd"),
	} {
		t.Run(name, func(t *testing.T) {
			f.watch = func(context.Context, Reference, func([]*x509svid.SVID) error) error { return err }
			r := resolver(t, Options{Attestor: f})
			p := run(t, as{uid: aliceUID, cgroup: group(t, "never")})
			wantRefused(t, r, p.connect(listen(t, "tcp")), identity.ErrUnavailable)
		})
	}
	f.watch = func(ctx context.Context, _ Reference, _ func([]*x509svid.SVID) error) error {
		<-ctx.Done()
		return ctx.Err()
	}
	r := resolver(t, Options{Attestor: f})
	p := run(t, as{uid: aliceUID, cgroup: group(t, "silent")})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.Resolve(ctx, peer(t, p.connect(listen(t, "tcp")))); !errors.Is(err, identity.ErrUnavailable) {
		t.Errorf("silent: %v", err)
	}
}

func TestAnchorEndsBeforeItsWorkload(t *testing.T) {
	f := newFake(t)
	r := resolver(t, Options{Attestor: f})
	dir := group(t, "anchor")
	first := run(t, as{uid: aliceUID, cgroup: dir})
	time.Sleep(30 * time.Millisecond) // older by a clock tick at least
	second := run(t, as{uid: aliceUID, cgroup: dir})
	l := listen(t, "tcp")
	c := wantID(t, r, second.connect(l), alice)
	s := c.(*caller).s
	if pid := s.subject.Load().Process.PID(); pid != first.pid {
		t.Errorf("asked about %d, want the older one, %d", pid, first.pid)
	}
	var asked atomic.Int32
	f.jwt = func(_ Reference, id spiffeid.ID, aud string) (secret.Secret, time.Time, error) {
		if asked.Add(1) == 1 {
			first.stop() // under the attestor's eyes
		}
		token, err := f.issuer.MintJWT(id, aud, time.Minute)
		return token, time.Now().Add(time.Minute), err
	}
	if _, _, err := c.JWTSVID(t.Context(), "https://vault.example"); err != nil || asked.Load() != 2 {
		t.Errorf("JWT-SVID: %v after %d questions, want it on the second", err, asked.Load())
	}
	if pid := s.subject.Load().Process.PID(); pid != second.pid {
		t.Errorf("asked about %d, want the one that is left, %d", pid, second.pid)
	}
	for range 100 {
		if _, err := c.Workload(); err != nil {
			t.Fatalf("dropped although a process is left: %v", err)
		}
	}
	wantID(t, r, second.connect(l), alice)
	second.stop()
	eventually(t, "gone", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrGone) })
	// Later processes of the same cgroup and user are a new workload, and known again.
	third := run(t, as{uid: aliceUID, cgroup: dir})
	wantID(t, r, third.connect(l), alice)
}

func TestSessionsAreBounded(t *testing.T) {
	f := newFake(t)
	r := resolver(t, Options{Attestor: f, Sessions: 2})
	l := listen(t, "unix")
	a, b, c := run(t, as{uid: aliceUID}), run(t, as{uid: aliceUID}), run(t, as{uid: bobUID})
	old := wantID(t, r, a.connect(l), alice)
	wantID(t, r, b.connect(l), alice)
	wantRefused(t, r, c.connect(l), identity.ErrUnavailable)
	old.(*caller).s.used.Store(time.Now().Add(-busy - time.Second).UnixNano())
	wantID(t, r, c.connect(l), bob)
	eventually(t, "the unused one is let go", func() bool { _, err := old.Workload(); return errors.Is(err, identity.ErrGone) })
}

func TestIdleSessionsAreLetGo(t *testing.T) {
	r := resolver(t, Options{Attestor: newFake(t), Idle: 40 * time.Millisecond})
	p := run(t, as{uid: aliceUID, cgroup: group(t, "idle")})
	l := listen(t, "tcp")
	c := wantID(t, r, p.connect(l), alice)
	for range 10 {
		time.Sleep(10 * time.Millisecond)
		if _, err := c.Workload(); err != nil {
			t.Fatalf("let go while in use: %v", err)
		}
	}
	eventually(t, "let go", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.sessions) == 0
	})
	eventually(t, "ErrGone", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrGone) })
	wantID(t, r, p.connect(l), alice)
}

func TestClose(t *testing.T) {
	f := newFake(t)
	r, err := New(Options{Attestor: f, TrustDomains: []spiffeid.TrustDomain{td}, Cgroups: cgroups(t), Hybrid: true})
	if err != nil {
		t.Fatal(err)
	}
	p := run(t, as{uid: aliceUID, cgroup: group(t, "close")})
	l := listen(t, "tcp")
	c := wantID(t, r, p.connect(l), alice)
	r.Close()
	if _, err := c.Workload(); !errors.Is(err, identity.ErrGone) {
		t.Errorf("after Close: %v", err)
	}
	wantRefused(t, r, p.connect(l), identity.ErrUnavailable)
}

func TestManyAtOnce(t *testing.T) {
	r := resolver(t, Options{Attestor: newFake(t)})
	var all sync.WaitGroup
	dirs := []string{group(t, "many1"), group(t, "many2")}
	for n, who := range []struct {
		uid  uint32
		want spiffeid.ID
	}{{aliceUID, alice}, {bobUID, bob}, {aliceUID, alice}, {bobUID, bob}} {
		dir := dirs[n/2] // each group has both users' programs
		l := listen(t, "tcp")
		progs := make([]*program, 3)
		for i := range progs {
			progs[i] = run(t, as{uid: who.uid, cgroup: dir})
		}
		all.Go(func() {
			for i, p := range progs {
				for range 20 {
					if _, id, err := resolve(t, r, peer(t, p.connect(l))); id != who.want {
						t.Errorf("got %q, %v; want %q", id, err, who.want)
					}
				}
				if i > 0 {
					progs[i-1].stop()
				}
			}
		})
	}
	all.Wait()
}

// TestEndOfOneIsNotOfAll: what the attestor says about a process that has just ended is
// nothing about the others of its workload.
func TestEndOfOneIsNotOfAll(t *testing.T) {
	dir := group(t, "one-ends")
	for range 10 {
		first := run(t, as{uid: aliceUID, gid: aliceUID, cgroup: dir})
		f := newFake(t)
		answer := f.watch
		f.watch = func(ctx context.Context, r Reference, update func([]*x509svid.SVID) error) error {
			if r.Process.PID() != first.pid {
				return answer(ctx, r, update)
			}
			first.stop()
			return fmt.Errorf("%w: no such process", identity.ErrGone)
		}
		l := listen(t, "tcp")
		p := run(t, as{uid: aliceUID, gid: aliceUID, cgroup: dir})
		wantID(t, resolver(t, Options{Attestor: f}), p.connect(l), alice)
		p.stop()
	}
}
