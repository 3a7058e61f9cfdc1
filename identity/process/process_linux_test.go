// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/secret"
)

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

func TestRootCgroupByUserAlone(t *testing.T) {
	r := resolver(t, Options{Attestor: newFake(t), RootCgroup: true})
	p := run(t, as{uid: aliceUID})
	c := p.connect(listen(t, "tcp"))
	if peer(t, c).Proc.Cgroup != cgroups(t).Root() {
		t.Skip("this machine's tests do not run in the top cgroup")
	}
	wantID(t, r, c, alice)
}

func TestAnotherUserSinceItConnected(t *testing.T) {
	r := resolver(t, Options{Attestor: newFake(t)})
	p := peer(t, run(t, as{uid: aliceUID}).connect(listen(t, "unix")))
	p.Proc.UID = bobUID
	if _, id, err := resolve(t, r, p); !errors.Is(err, identity.ErrUnknown) {
		t.Errorf("got %q, %v; want ErrUnknown", id, err)
	}
}

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
