// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"net/netip"
	"os"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/identity/embedded"
)

// resolvers returns one of each kind that knows our trust domain.
func resolvers(t testing.TB, i *embedded.Issuer) map[string]Resolver {
	t.Helper()
	s := fed(t, SourceOptions{})
	feed(t, s, i, mintX509(t, i, app, 0))
	return map[string]Resolver{
		EvidenceSidecar:  NewSidecar(s, SidecarOptions{SameUser: true}),
		EvidenceX509SVID: newX509(t, i),
		EvidenceJWTSVID:  newJWT(t, i),
	}
}

// evidence is what a good caller of each kind carries.
func evidence(t testing.TB, i *embedded.Issuer) map[string]Peer {
	t.Helper()
	return map[string]Peer{
		EvidenceSidecar:  {Proc: &Process{UID: uint32(os.Geteuid()), PIDFD: -1}},
		EvidenceX509SVID: {Chain: mintX509(t, i, app, 0).Certificates},
		EvidenceJWTSVID:  {JWT: mintJWT(t, i, app, 0)},
	}
}

// TestMUST_I1_PeerHoldsNothingThatAnAppCanWrite: a resolver sees a Peer and nothing
// else, and there is no room in it for a header or a name. An address decides nothing.
func TestMUST_I1_PeerHoldsNothingThatAnAppCanWrite(t *testing.T) {
	want := map[string]string{
		"Addr": "netip.AddrPort", "Chain": "[]*x509.Certificate", "JWT": "secret.Secret", "Proc": "*identity.Process",
	}
	for f := range reflect.TypeFor[Peer]().Fields() {
		if want[f.Name] != f.Type.String() {
			t.Errorf("Peer has %s %s: who may write it, and what binds it to the connection?", f.Name, f.Type)
		}
	}
	for name, r := range resolvers(t, newIssuer(t, embedded.Options{})) {
		for _, addr := range []string{"127.0.0.1:1", "[::1]:1", "10.0.0.1:443", "[::ffff:127.0.0.1]:9"} {
			c, err := r.Resolve(t.Context(), Peer{Addr: netip.MustParseAddrPort(addr)})
			wantError(t, err, ErrUnknown)
			if c != nil {
				t.Errorf("%s: an address alone got %v", name, c)
			}
		}
	}
}

// TestMUST_I8_NoFallback: each resolver looks at its own kind of evidence only. In
// particular egret's own identity is nobody's default.
func TestMUST_I8_NoFallback(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	for name, r := range resolvers(t, i) {
		for kind, p := range evidence(t, i) {
			c, err := r.Resolve(t.Context(), p)
			if kind == name {
				wantError(t, err, nil)
				continue
			}
			wantError(t, err, ErrUnknown)
			if c != nil {
				t.Errorf("%s resolver took %s: %v", name, kind, c)
			}
		}
	}
}

// TestMUST_I12_EvidenceIsNamed: the policy weighs it and the record shows it.
func TestMUST_I12_EvidenceIsNamed(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	peers := evidence(t, i)
	for kind, r := range resolvers(t, i) {
		c, err := r.Resolve(t.Context(), peers[kind])
		if err != nil {
			t.Fatal(err)
		}
		w, err := c.Workload()
		if err != nil || w.Evidence != kind || w.ID != app || w.Expires.IsZero() {
			t.Errorf("%s: %+v, %v", kind, w, err)
		}
	}
}

// TestCallersDoNotAllocate: Workload is asked for every request.
func TestCallersDoNotAllocate(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	peers := evidence(t, i)
	for kind, r := range resolvers(t, i) {
		c, err := r.Resolve(t.Context(), peers[kind])
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = c.Workload() }); n != 0 {
			t.Errorf("%s: %v allocations", kind, n)
		}
	}
}

// BenchmarkWorkload is what a request spends on identity.
func BenchmarkWorkload(b *testing.B) {
	i := newIssuer(b, embedded.Options{})
	peers := evidence(b, i)
	for kind, r := range resolvers(b, i) {
		b.Run(kind, func(b *testing.B) {
			c, err := r.Resolve(b.Context(), peers[kind])
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				_, _ = c.Workload()
			}
		})
	}
}

// TestOnlySidecarHoldsKeys: a caller's token or key is never used as an assertion.
func TestOnlySidecarHoldsKeys(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	peers := evidence(t, i)
	for _, kind := range []string{EvidenceX509SVID, EvidenceJWTSVID} {
		c, err := resolvers(t, i)[kind].Resolve(t.Context(), peers[kind])
		if err != nil {
			t.Fatal(err)
		}
		token, _, err := c.JWTSVID(t.Context(), "https://vault.example")
		wantError(t, err, ErrNotHeld)
		cert, err2 := c.X509SVID(t.Context())
		wantError(t, err2, ErrNotHeld)
		if !token.IsZero() || cert.PrivateKey != nil {
			t.Errorf("%s: it hands something out", kind)
		}
	}
}

func TestSidecarSameUser(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	s := fed(t, SourceOptions{})
	feed(t, s, i, mintX509(t, i, app, 0))
	own := uint32(os.Geteuid())
	tests := []struct {
		name string
		same bool
		proc *Process
		want error
	}{
		{"not asked for", false, nil, nil},
		{"not asked for, another user", false, &Process{UID: own + 1}, nil},
		{"own user", true, &Process{UID: own}, nil},
		{"another user", true, &Process{UID: own + 1}, ErrUnknown},
		{"no facts", true, nil, ErrUnknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewSidecar(s, SidecarOptions{SameUser: tt.same}).Resolve(t.Context(), Peer{Proc: tt.proc})
			wantError(t, err, tt.want)
		})
	}
}

func TestSidecarActsWithOurSVIDs(t *testing.T) {
	a := newAgent(t, embedded.Options{}, embedded.Entry{ID: app})
	s := runSource(t, SourceOptions{Address: a.address()})
	ready(t, s)
	c, err := NewSidecar(s, SidecarOptions{}).Resolve(t.Context(), Peer{})
	if err != nil {
		t.Fatal(err)
	}
	token, expires, err := c.JWTSVID(t.Context(), "https://vault.example")
	if err != nil {
		t.Fatal(err)
	}
	j, err := jwtsvid.ParseAndValidate(token.Reveal(), s, []string{"https://vault.example"})
	if err != nil || j.ID != app || !j.Expiry.Equal(expires) {
		t.Errorf("JWT-SVID: %+v, %v", j, err)
	}
	cert, err := c.X509SVID(t.Context())
	if err != nil || cert.PrivateKey == nil || cert.Leaf == nil {
		t.Fatalf("X.509-SVID: %v", err)
	}
	if id, _, err := x509svid.ParseAndVerify(cert.Certificate, s); err != nil || id != app {
		t.Errorf("X.509-SVID: %v, %v", id, err)
	}
}

// TestMUST_I4_SidecarIsAskedAgain: for every request, and for every use of its keys.
func TestMUST_I4_SidecarIsAskedAgain(t *testing.T) {
	type change func(*testing.T, *Source, *embedded.Issuer)
	changes := map[string]struct {
		change change
		want   error
	}{
		"renewed": {func(t *testing.T, s *Source, i *embedded.Issuer) {
			feed(t, s, i, mintX509(t, i, app, 2*time.Hour))
		}, nil},
		"ended": {func(*testing.T, *Source, *embedded.Issuer) { time.Sleep(time.Hour) }, ErrExpired},
		"another's now": {func(t *testing.T, s *Source, i *embedded.Issuer) {
			feed(t, s, i, mintX509(t, i, other, 0))
		}, ErrRevoked},
		"entry deleted": {func(_ *testing.T, s *Source, _ *embedded.Issuer) { deny(s) }, ErrRevoked},
		"ambiguous now": {func(t *testing.T, s *Source, i *embedded.Issuer) {
			feed(t, s, i, mintX509(t, i, app, 0), mintX509(t, i, other, 0))
		}, ErrInvalid},
		"agent went away": {func(_ *testing.T, s *Source, _ *embedded.Issuer) {
			x509Watcher{s}.OnX509ContextWatchError(status.Error(codes.Unavailable, "gone"))
		}, nil},
	}
	for name, tt := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i, s := newIssuer(t, embedded.Options{}), fed(t, SourceOptions{})
				feed(t, s, i, mintX509(t, i, app, time.Hour))
				c, err := NewSidecar(s, SidecarOptions{}).Resolve(t.Context(), Peer{})
				if err != nil {
					t.Fatal(err)
				}
				tt.change(t, s, i)
				_, err = c.Workload()
				wantError(t, err, tt.want)
				_, err = c.X509SVID(context.Background())
				wantError(t, err, tt.want)
				if tt.want != nil {
					_, _, err = c.JWTSVID(context.Background(), "a")
					wantError(t, err, tt.want)
				}
			})
		})
	}
}

func deny(s *Source) {
	x509Watcher{s}.OnX509ContextWatchError(status.Error(codes.PermissionDenied, "no identity issued"))
	jwtWatcher{s}.OnJWTBundlesWatchError(status.Error(codes.PermissionDenied, "no identity issued"))
}
