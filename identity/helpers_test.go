// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	td     = spiffeid.RequireTrustDomainFromString("acme.example")
	app    = spiffeid.RequireFromString("spiffe://acme.example/ns/qa/sa/app")
	other  = spiffeid.RequireFromString("spiffe://acme.example/ns/qa/sa/other")
	enemy  = spiffeid.RequireTrustDomainFromString("enemy.example")
	ourTDs = []spiffeid.TrustDomain{td}
)

const audience = "spiffe://acme.example/egret"

// every sentinel of the contract, to say exactly one of them was meant.
func sentinels() []error {
	return []error{ErrUnknown, ErrInvalid, ErrExpired, ErrRevoked, ErrGone, ErrWrongAudience, ErrTrustDomain, ErrUnavailable, ErrNotHeld}
}

// wantError checks that err is want and none of the others.
func wantError(t *testing.T, err, want error) {
	t.Helper()
	if want == nil && err != nil {
		t.Errorf("got %v, want no error", err)
	}
	for _, s := range sentinels() {
		if is := errors.Is(err, s); is != (s == want) {
			t.Errorf("got error %q; is %q: %v, want %v", err, s, is, s == want)
		}
	}
}

func newIssuer(t testing.TB, o embedded.Options) *embedded.Issuer {
	t.Helper()
	if o.TrustDomain.IsZero() {
		o.TrustDomain = td
	}
	i, err := embedded.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func rotate(t *testing.T, i *embedded.Issuer, times int) {
	t.Helper()
	for range times {
		if err := i.Rotate(); err != nil {
			t.Fatal(err)
		}
	}
}

func mintX509(t testing.TB, i *embedded.Issuer, id spiffeid.ID, ttl time.Duration) *x509svid.SVID {
	t.Helper()
	svid, err := i.MintX509(id, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return svid
}

func mintJWT(t testing.TB, i *embedded.Issuer, id spiffeid.ID, ttl time.Duration) secret.Secret {
	t.Helper()
	token, err := i.MintJWT(id, audience, ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// agent is a Workload API that can be stopped and started on one socket.
type agent struct {
	t      *testing.T
	issuer *embedded.Issuer
	path   string
	stop   func()
}

func newAgent(t *testing.T, o embedded.Options, entries ...embedded.Entry) *agent {
	t.Helper()
	a := &agent{t: t, issuer: newIssuer(t, o), path: filepath.Join(t.TempDir(), "api", "s")}
	a.start(entries...)
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *agent) start(entries ...embedded.Entry) {
	a.t.Helper()
	s, err := a.issuer.Listen(a.path, entries...)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	a.stop = func() {
		cancel()
		if err := <-done; err != nil {
			a.t.Error(err)
		}
		a.stop = func() {}
	}
}

func (a *agent) address() string { return "unix://" + a.path }

// runSource follows the agent for the life of the test.
func runSource(t *testing.T, o SourceOptions) *Source {
	t.Helper()
	if o.TrustDomains == nil {
		o.TrustDomains = ourTDs
	}
	o.Logger = slog.New(slog.DiscardHandler)
	s, err := NewSource(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func ready(t *testing.T, s *Source) {
	t.Helper()
	select {
	case <-s.Ready():
	case <-time.After(5 * time.Second):
		t.Fatal("source is not ready after 5 s")
	}
}

// eventually waits for what a stream brings.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 5 s: %s", what)
		}
	}
}
