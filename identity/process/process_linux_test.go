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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// TestCallersAreToldApart: two users in two cgroups and one in the other's, over TCP and
// over a unix socket, and their own SVIDs on their behalf.
func TestCallersAreToldApart(t *testing.T) {
	f := newFake(t)
	asked := make(chan Reference, 10)
	watch := f.watch
	f.watch = func(ctx context.Context, r Reference, u func([]*x509svid.SVID) error) error {
		asked <- r
		return watch(ctx, r, u)
	}
	r := resolver(t, Options{Attestor: f})
	one, two := group(t, "one"), group(t, "two")
	programs := map[*program]spiffeid.ID{
		run(t, as{uid: aliceUID, gid: 1, cgroup: one}): alice,
		run(t, as{uid: bobUID, gid: 1, cgroup: two}):   bob,
		run(t, as{uid: bobUID, gid: 1, cgroup: one}):   bob,
	}
	for _, network := range []string{"tcp", "unix"} {
		l := listen(t, network)
		for p, want := range programs {
			for range 3 { // once per workload is asked, not per connection
				wantID(t, r, p.connect(l), want)
			}
			ref := <-asked
			if ref.Process.PID() != p.pid || ref.Exact != (network == "unix") || ref.Cgroup != one && ref.Cgroup != two {
				t.Errorf("%s: asked about %+v, want process %d", network, ref, p.pid)
			}
		}
	}
	if n := len(asked); n != 0 {
		t.Errorf("the attestor was asked %d times too often", n)
	}
}

func TestOwnSVIDsOnBehalf(t *testing.T) {
	f := newFake(t)
	r := resolver(t, Options{Attestor: f})
	c := wantID(t, r, run(t, as{uid: aliceUID, cgroup: group(t, "svid")}).connect(listen(t, "tcp")), alice)
	token, ends, err := c.JWTSVID(t.Context(), "https://vault.example")
	if err != nil || token.IsZero() || !ends.After(time.Now()) {
		t.Errorf("JWT-SVID: %v, %v, %v", token, ends, err)
	}
	cert, err := c.X509SVID(t.Context())
	if err != nil || cert.PrivateKey == nil || cert.Leaf.URIs[0].String() != alice.String() {
		t.Errorf("X.509-SVID: %v", err)
	}
	if _, _, err := c.JWTSVID(t.Context(), ""); !errors.Is(err, identity.ErrInvalid) {
		t.Errorf("no audience: %v", err)
	}
	// What is not what was asked for is not used.
	for name, jwt := range map[string]func(Reference, spiffeid.ID, string) (secret.Secret, time.Time, error){
		"another's": func(_ Reference, _ spiffeid.ID, aud string) (secret.Secret, time.Time, error) {
			s, err := f.issuer.MintJWT(bob, aud, time.Minute)
			return s, time.Now().Add(time.Minute), err
		},
		"for another": func(_ Reference, id spiffeid.ID, _ string) (secret.Secret, time.Time, error) {
			s, err := f.issuer.MintJWT(id, "https://enemy.example", time.Minute)
			return s, time.Now().Add(time.Minute), err
		},
	} {
		f.jwt = jwt
		if s, _, err := c.JWTSVID(t.Context(), "https://vault.example"); !errors.Is(err, identity.ErrInvalid) || !s.IsZero() {
			t.Errorf("%s token: %v", name, err)
		}
	}
}

// TestMUST_I5_ResetConnectionIsNotTheVictims plays the attack at this level: bob sends a
// request, resets, and alice's program takes the same 4-tuple.
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

// ownerByAddress is the look-up as one would do it by address alone.
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

// TestMUST_I6_AnswerAfterTheEndIsDiscarded: the process ends while the attestor looks at
// its PID, which may then be another's.
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

// TestMUST_I6_TokenAfterTheEndIsDiscarded is the same for a JWT-SVID.
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

// TestMUST_I7_OneIdentityIsSelected: a root process may have several SVIDs, egret's own
// among them. The first of a list is nobody's decision.
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

// TestMUST_I8_WithoutFactsNobody: what the kernel does not say is not guessed.
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

func TestRootCgroupByUserAlone(t *testing.T) {
	r := resolver(t, Options{Attestor: newFake(t), RootCgroup: true})
	p := run(t, as{uid: aliceUID})
	c := p.connect(listen(t, "tcp"))
	if peer(t, c).Proc.Cgroup != cgroups(t).Root() {
		t.Skip("this machine's tests do not run in the top cgroup")
	}
	wantID(t, r, c, alice)
}

// TestMUST_I9_DroppedAtTheEnd: with the last process of a workload everything that is
// known of it goes.
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

// TestMUST_I9_DroppedWhenDenied: and comes back when the attestor grants it again.
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

// TestIdentityDoesNotBecomeAnother: a connection is the identity it came in as, or none.
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

// TestAttestorAway: its last word holds until the SVID ends, and no longer.
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

// TestAnchorEndsBeforeItsWorkload: over TCP a workload is its cgroup and user, not the
// one process that the attestor was asked about.
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

// TestAnotherUserSinceItConnected: an exec of a set-user-ID program, say.
func TestAnotherUserSinceItConnected(t *testing.T) {
	r := resolver(t, Options{Attestor: newFake(t)})
	p := peer(t, run(t, as{uid: aliceUID}).connect(listen(t, "unix")))
	p.Proc.UID = bobUID
	if _, id, err := resolve(t, r, p); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("got %q, %v; want ErrUnknown", id, err)
	}
}

// TestExecIsAskedAbout: what a process runs now is what its next connection is known by.
func TestExecIsAskedAbout(t *testing.T) {
	f := newFake(t)
	r := resolver(t, Options{Attestor: f})
	l := listen(t, "unix")
	good, evil := copyOf(t, "good"), copyOf(t, "evil")
	f.watch = func(ctx context.Context, ref Reference, update func([]*x509svid.SVID) error) error {
		exe, err := ref.Process.Executable()
		if err != nil {
			return err
		}
		id := bob
		if exe.Path == good {
			id = alice
		}
		_ = update(f.mint(t, time.Hour, id))
		<-ctx.Done()
		return ctx.Err()
	}
	p := run(t, as{uid: aliceUID, file: good})
	wantID(t, r, p.connect(l), alice)
	p.become(evil)
	wantID(t, r, p.connect(l), bob)
}

// copyOf makes another file of the test binary.
func copyOf(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "egret")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(path, b, 0o755)); err != nil {
		t.Fatal(err)
	}
	return path
}

// become has the program replace itself by another file.
func (p *program) become(want string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, "exec "+want); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "exec", func() bool {
		name, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.pid))
		return name == want
	})
}

// TestPassedSocketIsItsCreators: what counts is who opened it, not who holds it.
func TestPassedSocketIsItsCreators(t *testing.T) {
	needRoot(t)
	r := resolver(t, Options{Attestor: newFake(t)})
	p := run(t, as{uid: aliceUID, cgroup: group(t, "passed")})
	c := p.connect(listen(t, "tcp"))
	pidfd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pidfd)
	// Take a copy of alice's socket, as if she had sent it to us.
	taken := -1
	for fd := 3; fd < 20 && taken < 0; fd++ {
		if got, err := unix.PidfdGetfd(pidfd, fd, 0); err == nil {
			if name, err := unix.Getpeername(got); err == nil && name != nil {
				taken = got
				continue
			}
			_ = unix.Close(got)
		}
	}
	if taken < 0 {
		t.Skip("cannot take the socket")
	}
	defer unix.Close(taken)
	caller := wantID(t, r, c, alice)
	p.stop()
	eventually(t, "gone with its creator", func() bool { _, err := caller.Workload(); return errors.Is(err, identity.ErrGone) })
	if _, id, err := resolve(t, r, peer(t, c)); !errors.Is(err, identity.ErrGone) {
		t.Errorf("the socket in our hands is %q, %v; want ErrGone", id, err)
	}
}

// TestMUST_P1_UnprivilegedIsEnough: egret as a user of its own, without a capability,
// knows the programs of other users.
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

// TestHybridIsWatched: on a machine with v1 groups too, two of those in one v2 group may
// be two containers.
func TestHybridIsWatched(t *testing.T) {
	if !cgroups(t).Hybrid() {
		t.Skip("this machine has cgroup v2 alone")
	}
	const pids = "/sys/fs/cgroup/pids"
	container := filepath.Join(pids, fmt.Sprintf("egret-test-%d", os.Getpid()))
	if err := os.Mkdir(container, 0o755); err != nil {
		t.Skip(err)
	}
	defer os.Remove(container)
	r := resolver(t, Options{Attestor: newFake(t)})
	dir := group(t, "hybrid")
	p, other := run(t, as{uid: aliceUID, cgroup: dir}), run(t, as{uid: aliceUID, cgroup: dir})
	if err := os.WriteFile(filepath.Join(container, "cgroup.procs"), []byte(strconv.Itoa(other.pid)), 0o600); err != nil {
		t.Skip(err)
	}
	l := listen(t, "tcp")
	wantRefused(t, r, p.connect(l), identity.ErrUnknown)
	other.stop()
	wantID(t, r, p.connect(l), alice)
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

func TestNewRefuses(t *testing.T) {
	f := newFake(t)
	tds := []spiffeid.TrustDomain{td}
	tests := map[string]Options{
		"process: no attestor given":            {TrustDomains: tds},
		"process: no trust domain is allowed; ": {Attestor: f},
	}
	if c := cgroups(t); c.Hybrid() {
		tests["process: this machine mounts cgroup v1 controllers too, "] = Options{Attestor: f, TrustDomains: tds, Cgroups: c}
	}
	for want, o := range tests {
		if _, err := New(o); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	reg := prometheus.NewPedanticRegistry()
	if r, err := New(Options{Attestor: f, TrustDomains: tds, Registerer: reg}); err != nil {
		t.Error(err)
	} else {
		r.Close()
	}
	if _, err := New(Options{Attestor: f, TrustDomains: tds, Registerer: reg}); err == nil {
		t.Error("one metric is registered twice")
	}
}

// TestManyAtOnce: connections of several programs at once, while programs end and start.
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
	for b.Loop() {
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
	}
}

// BenchmarkWorkload is what each request costs.
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

// BenchmarkAnchor is what a workload costs that is seen for the first time, without the
// attestor.
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
