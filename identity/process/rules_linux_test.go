// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/sockopt"
)

func TestMUST_I5_ResetConnectionIsNotTheVictims(t *testing.T) {
	needRoot(t)
	r := resolver(t, Options{Attestor: newFake(t)})
	dir := group(t, "race")
	victim := run(t, as{uid: aliceUID, cgroup: dir})
	l := listen(t, "tcp")
	attacker, err := dialFrom("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := attacker.Write([]byte("evil")); err != nil {
		t.Fatal(err)
	}
	stale, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	time.Sleep(20 * time.Millisecond) // until its bytes are here
	if err := errors.Join(attacker.(*net.TCPConn).SetLinger(0), attacker.Close()); err != nil {
		t.Fatal(err)
	}
	fresh := victim.connect(l, port(stale))

	// Without the check: who has the address now is alice, and the bytes are still read.
	uid := ownerByAddress(t, stale)
	named := peer(t, fresh)
	if named.Proc.UID != uid || uid != aliceUID {
		t.Fatalf("attack does not reproduce: uid %d", uid)
	}
	if _, id, err := resolve(t, r, named); id != alice {
		t.Fatalf("attack does not reproduce: %q, %v", id, err)
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(stale, buf); err != nil || string(buf) != "evil" {
		t.Fatalf("attack does not reproduce: %q, %v", buf, err)
	}
	// With it there is nothing to resolve by.
	if o, err := sockopt.PeerOwner(stale); !errors.Is(err, sockopt.ErrStale) {
		t.Errorf("got %+v, %v; want ErrStale", o, err)
	}
	wantID(t, r, fresh, alice)
}

func ownerByAddress(t *testing.T, c net.Conn) uint32 {
	t.Helper()
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	us, them := c.LocalAddr().(*net.TCPAddr), c.RemoteAddr().(*net.TCPAddr)
	want := fmt.Sprintf("0100007F:%04X 0100007F:%04X", them.Port, us.Port)
	for line := range strings.Lines(string(b)) {
		if _, rest, found := strings.Cut(line, want); found {
			var uid uint32
			_, err := fmt.Sscan(strings.Fields(rest)[4], &uid)
			if err != nil {
				t.Fatal(err)
			}
			return uid
		}
	}
	t.Fatal("nobody has the address")
	return 0
}

func TestMUST_I6_AnswerAfterTheEndIsDiscarded(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			f := newFake(t)
			p := run(t, as{uid: aliceUID, cgroup: group(t, "end-"+network)})
			refused := make(chan error, 1)
			f.watch = func(_ context.Context, _ Reference, update func([]*x509svid.SVID) error) error {
				p.stop()
				err := update(f.mint(t, time.Hour, alice))
				refused <- err
				return err
			}
			r := resolver(t, Options{Attestor: f})
			if _, id, err := resolve(t, r, peer(t, p.connect(listen(t, network)))); !errors.Is(err, identity.ErrGone) {
				t.Errorf("got %q, %v; want ErrGone", id, err)
			}
			if err := <-refused; err == nil {
				t.Error("the answer was taken")
			}
		})
	}
}

func TestMUST_I6_TokenAfterTheEndIsDiscarded(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			f := newFake(t)
			p := run(t, as{uid: aliceUID, cgroup: group(t, "token-"+network)})
			f.jwt = func(_ Reference, id spiffeid.ID, aud string) (secret.Secret, time.Time, error) {
				p.stop()
				s, err := f.issuer.MintJWT(id, aud, time.Minute)
				return s, time.Now().Add(time.Minute), err
			}
			c := wantID(t, resolver(t, Options{Attestor: f}), p.connect(listen(t, network)), alice)
			if s, _, err := c.JWTSVID(t.Context(), "https://vault.example"); !errors.Is(err, identity.ErrGone) || !s.IsZero() {
				t.Errorf("got %v; want ErrGone", err)
			}
		})
	}
}

func TestMUST_I7_OneIdentityIsSelected(t *testing.T) {
	egret := spiffeid.RequireFromString("spiffe://acme.example/egret")
	foreign := spiffeid.RequireFromString("spiffe://enemy.example/alice")
	tests := []struct {
		name   string
		ids    []spiffeid.ID
		accept func(spiffeid.ID) bool
		want   spiffeid.ID
		err    error
	}{
		{"one", []spiffeid.ID{alice}, nil, alice, nil},
		{"two entries for one", []spiffeid.ID{alice, alice}, nil, alice, nil},
		{"two and no rule", []spiffeid.ID{alice, egret}, nil, spiffeid.ID{}, identity.ErrInvalid},
		{"two and a rule", []spiffeid.ID{egret, alice}, func(id spiffeid.ID) bool { return id == alice }, alice, nil},
		{"a rule for both", []spiffeid.ID{egret, alice}, func(spiffeid.ID) bool { return true }, spiffeid.ID{}, identity.ErrInvalid},
		{"a rule for none", []spiffeid.ID{alice}, func(id spiffeid.ID) bool { return id == bob }, spiffeid.ID{}, identity.ErrUnknown},
		{"none", nil, nil, spiffeid.ID{}, identity.ErrRevoked},
		{"another trust domain's", []spiffeid.ID{foreign}, nil, spiffeid.ID{}, identity.ErrTrustDomain},
	}
	dir := group(t, "select")
	p := run(t, as{uid: aliceUID, cgroup: dir})
	l := listen(t, "tcp")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t)
			other, err := embedded.New(embedded.Options{TrustDomain: foreign.TrustDomain()})
			if err != nil {
				t.Fatal(err)
			}
			f.watch = func(ctx context.Context, _ Reference, update func([]*x509svid.SVID) error) error {
				var svids []*x509svid.SVID
				for _, id := range tt.ids {
					if id == foreign {
						v, _ := other.MintX509(id, 0)
						svids = append(svids, v)
						continue
					}
					svids = append(svids, f.mint(t, time.Hour, id)...)
				}
				_ = update(svids)
				<-ctx.Done()
				return ctx.Err()
			}
			r := resolver(t, Options{Attestor: f, Accept: tt.accept})
			_, id, err := resolve(t, r, peer(t, p.connect(l)))
			if !errors.Is(err, tt.err) || id != tt.want {
				t.Errorf("got %q, %v; want %q, %v", id, err, tt.want, tt.err)
			}
		})
	}
}

func TestMUST_I8_WithoutFactsNobody(t *testing.T) {
	f := newFake(t)
	f.watch = func(context.Context, Reference, func([]*x509svid.SVID) error) error {
		t.Error("the attestor was asked")
		return identity.ErrUnavailable
	}
	r := resolver(t, Options{Attestor: f})
	root := cgroups(t).Root()
	sockets, err := New(Options{Attestor: f, TrustDomains: []spiffeid.TrustDomain{td}})
	if err != nil {
		t.Fatal(err)
	}
	defer sockets.Close()
	tests := map[string]struct {
		r    *Resolver
		p    identity.Peer
		want error
	}{
		"no facts":          {r, identity.Peer{}, identity.ErrUnknown},
		"no cgroup":         {r, identity.Peer{Proc: &identity.Process{PIDFD: -1}}, identity.ErrUnknown},
		"the top cgroup":    {r, identity.Peer{Proc: &identity.Process{PIDFD: -1, Cgroup: root}}, identity.ErrUnknown},
		"a removed cgroup":  {r, identity.Peer{Proc: &identity.Process{PIDFD: -1, Cgroup: 1 << 61}}, identity.ErrGone},
		"TCP, only sockets": {sockets, identity.Peer{Proc: &identity.Process{PIDFD: -1, Cgroup: 5}}, identity.ErrUnknown},
		"a bad pidfd":       {r, identity.Peer{Proc: &identity.Process{PIDFD: 1 << 20}}, identity.ErrUnknown},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if c, _, err := resolve(t, tt.r, tt.p); !errors.Is(err, tt.want) || c != nil {
				t.Errorf("got %v, %v; want %v", c, err, tt.want)
			}
		})
	}
}

func TestMUST_I9_DroppedAtTheEnd(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			f := newFake(t)
			reg := prometheus.NewPedanticRegistry()
			r := resolver(t, Options{Attestor: f, Registerer: reg})
			count := func() bool {
				return testutil.GatherAndCompare(reg, strings.NewReader("# HELP egret_process_workloads Local workloads whose identity is followed now.\n# TYPE egret_process_workloads gauge\negret_process_workloads 0\n")) == nil
			}
			p := run(t, as{uid: aliceUID, cgroup: group(t, "drop-"+network)})
			c := wantID(t, r, p.connect(listen(t, network)), alice)
			if count() {
				t.Error("it is not followed")
			}
			p.stop()
			eventually(t, "ErrGone", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrGone) })
			eventually(t, "dropped", count)
			if _, _, err := c.JWTSVID(t.Context(), "a"); !errors.Is(err, identity.ErrGone) {
				t.Errorf("JWT-SVID: %v", err)
			}
			if _, err := c.X509SVID(t.Context()); !errors.Is(err, identity.ErrGone) {
				t.Errorf("X.509-SVID: %v", err)
			}
		})
	}
}

func TestMUST_I9_DroppedWhenDenied(t *testing.T) {
	f := newFake(t)
	var granted atomic.Bool
	granted.Store(true)
	deny := make(chan struct{})
	f.watch = func(ctx context.Context, _ Reference, update func([]*x509svid.SVID) error) error {
		if !granted.Load() {
			return fmt.Errorf("%w: by the agent", identity.ErrRevoked)
		}
		_ = update(f.mint(t, time.Hour, alice))
		select {
		case <-ctx.Done():
		case <-deny:
			granted.Store(false)
			return fmt.Errorf("%w: by the agent", identity.ErrRevoked)
		}
		return ctx.Err()
	}
	r := resolver(t, Options{Attestor: f})
	p := run(t, as{uid: aliceUID, cgroup: group(t, "denied")})
	l := listen(t, "tcp")
	c := wantID(t, r, p.connect(l), alice)
	deny <- struct{}{}
	eventually(t, "revoked", func() bool { _, err := c.Workload(); return errors.Is(err, identity.ErrRevoked) })
	wantRefused(t, r, p.connect(l), identity.ErrRevoked)
	granted.Store(true)
	eventually(t, "granted", func() bool { _, err := c.Workload(); return err == nil })
}

func TestMUST_P1_UnprivilegedIsEnough(t *testing.T) {
	needRoot(t)
	const egretUID = 47009
	dir := group(t, "unprivileged")
	for _, network := range []string{"tcp", "unix"} {
		for uid, want := range map[uint32]string{
			aliceUID: alice.String() + " <nil>", bobUID: bob.String() + " <nil>",
		} {
			folder, err := os.MkdirTemp("", "egret")
			if err := errors.Join(err, os.Chmod(folder, 0o777)); err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(folder)
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(folder, "s")
			}
			p, caller := run(t, as{uid: egretUID, gid: egretUID}), run(t, as{uid: uid, cgroup: dir})
			if _, err := fmt.Fprintln(p.in, "egret", network, address); err != nil {
				t.Fatal(err)
			}
			address, err = p.out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			caller.tell("dial " + network + " " + strings.TrimSpace(address))
			if line, err := p.out.ReadString('\n'); err != nil || line != want+"\n" {
				t.Errorf("%s, uid %d: got %q, %v; want %q", network, uid, line, err, want)
			}
		}
	}
}

// TestMUST_I1_PodsByRootsGroups: a group that the kubelet made says which pod its
// processes are of; one of the same name in a user's own part of the tree says nothing.
func TestMUST_I1_PodsByRootsGroups(t *testing.T) {
	const uid = "0f4c1b52-6f1a-4b7e-9d0c-1a2b3c4d5e6f"
	f, asked := newFake(t), make(chan string, 9)
	answer := f.watch
	f.watch = func(ctx context.Context, r Reference, update func([]*x509svid.SVID) error) error {
		asked <- r.PodUID
		return answer(ctx, r, update)
	}
	for name, owner := range map[string]int{"root": 0, "user": aliceUID} {
		pod := ""
		for _, part := range []string{name, name + "/kubepods", name + "/kubepods/pod" + uid, name + "/kubepods/pod" + uid + "/c"} {
			pod = group(t, part)
			if err := os.Chown(mount(t)+pod, owner, -1); err != nil {
				t.Skip(err)
			}
		}
		p := run(t, as{uid: aliceUID, gid: aliceUID, cgroup: pod})
		for _, network := range []string{"tcp", "unix"} {
			wantID(t, resolver(t, Options{Attestor: f}), p.connect(listen(t, network)), alice)
			if got := <-asked; (got == uid) != (owner == 0) {
				t.Errorf("%s, %s: asked about pod %q", name, network, got)
			}
		}
	}
}
