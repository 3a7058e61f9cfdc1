// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package delegate

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/internal/sockopt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td  = spiffeid.RequireTrustDomainFromString("laptop.example")
	app = spiffeid.RequireFromString("spiffe://laptop.example/app")
)

func server(t *testing.T, list ...embedded.Entry) (*embedded.Issuer, *embedded.Server) {
	t.Helper()
	i, err := embedded.New(embedded.Options{TrustDomain: td})
	if err != nil {
		t.Fatal(err)
	}
	s, err := i.Listen(filepath.Join(t.TempDir(), "api", "s"), list...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return i, s
}

// TestFinerEntriesAreRefusedForTCP: another process of the caller's cgroup and user
// could answer for it.
func TestFinerEntriesAreRefusedForTCP(t *testing.T) {
	for name, e := range map[string]embedded.Entry{
		"gid": {GIDs: []uint32{1}}, "path": {Path: "/bin/sh"}, "sha256": {SHA256: strings.Repeat("0", 64)},
	} {
		e.ID = app
		_, s := server(t, embedded.Entry{ID: app}, e)
		if _, err := New(s, Options{TCP: true}); err == nil || !strings.Contains(err.Error(), "identify its callers on a unix socket") {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := New(s, Options{}); err != nil {
			t.Errorf("%s, unix sockets only: %v", name, err)
		}
	}
	_, s := server(t, embedded.Entry{ID: app, Cgroup: "/a", Unit: "a.service", UIDs: []uint32{1}})
	if _, err := New(s, Options{TCP: true}); err != nil {
		t.Errorf("what TCP shows is refused: %v", err)
	}
}

// TestCallersOfThisUser: the whole way with no SPIRE, as on a laptop.
func TestCallersOfThisUser(t *testing.T) {
	i, s := server(t, embedded.Entry{ID: app})
	a, err := New(s, Options{TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := kernel.FindCgroups()
	if err != nil {
		t.Skip(err)
	}
	r, err := process.New(process.Options{Attestor: a, TrustDomains: []spiffeid.TrustDomain{td}, Cgroups: groups, RootCgroup: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			c := resolved(t, r, network)
			w, err := c.Workload()
			if err != nil || w.ID != app || w.Evidence != identity.EvidenceProcess {
				t.Fatalf("got %+v, %v", w, err)
			}
			token, ends, err := c.JWTSVID(t.Context(), "https://vault.example")
			if err != nil || !ends.After(time.Now()) {
				t.Fatal(err)
			}
			if v, err := jwtsvid.ParseAndValidate(token.Reveal(), i.Bundles(), []string{"https://vault.example"}); err != nil || v.ID != app || v.Expiry.Sub(ends).Abs() > time.Second {
				t.Errorf("JWT-SVID = %+v, %v; want expiry %v", v, err, ends)
			}
		})
	}
	c := resolved(t, r, "tcp")
	i.RemoveEntry(app)
	for deadline := time.Now().Add(5 * time.Second); err == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		_, err = c.Workload()
	}
	if !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("after its entry: %v", err)
	}
	if _, _, err := a.JWTSVID(t.Context(), process.Reference{Facts: kernel.Facts{UID: uint32(os.Geteuid())}}, app, "a"); !errors.Is(err, identity.ErrRevoked) {
		t.Errorf("JWT-SVID after its entry: %v", err)
	}
}

// resolved is a connection of this process.
func resolved(t *testing.T, r identity.Resolver, network string) identity.Caller {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	mine, err1 := net.Dial(network, l.Addr().String())
	c, err2 := l.Accept()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(mine.Close(), c.Close()) })
	g, err := sockopt.OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	f, err := g.PeerFacts(c)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	caller, err := r.Resolve(t.Context(), identity.Peer{Proc: &identity.Process{PID: f.PID, UID: f.UID, Cgroup: f.Cgroup, PIDFD: f.PIDFD()}})
	if err != nil {
		t.Fatal(err)
	}
	return caller
}
