// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/identity/embedded"
)

func TestNewSourceRefuses(t *testing.T) {
	t.Setenv(workloadapi.SocketEnv, "")
	tests := []struct {
		name string
		o    SourceOptions
		want string
	}{
		{"no trust domain", SourceOptions{Address: "unix:///s"},
			"workload API: no trust domain is allowed; list at least that of egret itself"},
		{"no address", SourceOptions{TrustDomains: ourTDs},
			`workload API: no address given; set one or $SPIFFE_ENDPOINT_SOCKET, such as "unix:///run/spire/agent.sock"`},
		{"bad address", SourceOptions{TrustDomains: ourTDs, Address: "/run/s"},
			`workload API: address "/run/s": `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewSource(tt.o); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
	t.Setenv(workloadapi.SocketEnv, "unix:///run/x")
	if s, err := NewSource(SourceOptions{TrustDomains: ourTDs}); err != nil || s.address != "unix:///run/x" {
		t.Errorf("the address of the environment is not taken: %v", err)
	}
}

func TestSourceBeforeTheFirstAnswer(t *testing.T) {
	s, err := NewSource(SourceOptions{Address: "unix:///nowhere", TrustDomains: ourTDs})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := s.SVID()
	_, err2 := s.GetX509BundleForTrustDomain(td)
	_, err3 := s.GetJWTBundleForTrustDomain(td)
	_, _, err4 := s.FetchJWTSVID(t.Context(), "a")
	for _, err := range []error{err1, err2, err3, err4} {
		wantError(t, err, ErrUnavailable)
	}
	_, err = s.GetX509BundleForTrustDomain(enemy)
	wantError(t, err, ErrTrustDomain)
}

func TestSourceFollows(t *testing.T) {
	a := newAgent(t, embedded.Options{}, embedded.Entry{ID: app})
	s := runSource(t, SourceOptions{Address: a.address()})
	ready(t, s)
	svid, err := s.SVID()
	if err != nil || svid.ID != app {
		t.Fatalf("SVID = %v, %v", svid, err)
	}
	if _, _, err := x509svid.Verify(svid.Certificates, s); err != nil {
		t.Error(err)
	}
	token, expires, err := s.FetchJWTSVID(t.Context(), "https://vault.example")
	if err != nil {
		t.Fatal(err)
	}
	if j, err := jwtsvid.ParseAndValidate(token.Reveal(), s, []string{"https://vault.example"}); err != nil || !j.Expiry.Equal(expires) || j.ID != app {
		t.Errorf("JWT-SVID = %+v, %v; want expiry %v", j, err, expires)
	}
	_, _, err = s.FetchJWTSVID(t.Context(), "")
	wantError(t, err, ErrInvalid)
	_, err = s.GetJWTBundleForTrustDomain(enemy)
	wantError(t, err, ErrTrustDomain)

	rotate(t, a.issuer, 1)
	eventually(t, "the SVID follows a rotation", func() bool {
		now, err := s.SVID()
		return err == nil && !now.Certificates[0].Equal(svid.Certificates[0])
	})
	b, err := s.GetX509BundleForTrustDomain(td)
	if err != nil || len(b.X509Authorities()) != 2 {
		t.Errorf("bundle after rotation = %v, %v", b, err)
	}
}

// TestSourceSurvivesARestart: the last answer is kept while the agent is away, and the
// connection comes back by itself.
func TestSourceSurvivesARestart(t *testing.T) {
	t.Parallel()
	a := newAgent(t, embedded.Options{}, embedded.Entry{ID: app})
	r := prometheus.NewPedanticRegistry()
	s := runSource(t, SourceOptions{Address: a.address(), Registerer: r})
	ready(t, s)
	eventually(t, "up", func() bool { return s.up() == 1 })
	before, err := s.SVID()
	if err != nil {
		t.Fatal(err)
	}
	a.stop()
	eventually(t, "down", func() bool { return s.up() == 0 })
	if now, err := s.SVID(); err != nil || now != before {
		t.Errorf("while away: %v, %v; want the last answer", now, err)
	}
	if _, err := s.GetJWTBundleForTrustDomain(td); err != nil {
		t.Errorf("while away: %v", err)
	}
	_, _, err = s.FetchJWTSVID(t.Context(), "a")
	wantError(t, err, ErrUnavailable)
	want := "# HELP egret_workload_api_up 1 while the Workload API answers on every stream that egret holds, else 0.\n" +
		"# TYPE egret_workload_api_up gauge\negret_workload_api_up 0\n"
	if err := testutil.GatherAndCompare(r, strings.NewReader(want), "egret_workload_api_up"); err != nil {
		t.Error(err)
	}

	a.start(embedded.Entry{ID: app})
	eventually(t, "a new SVID after the restart", func() bool {
		now, err := s.SVID()
		return err == nil && now != before && s.up() == 1
	})
}

// TestSourceDropsWhatIsDenied: the entry is deleted, and comes back.
func TestSourceDropsWhatIsDenied(t *testing.T) {
	t.Parallel()
	a := newAgent(t, embedded.Options{}, embedded.Entry{ID: app})
	s := runSource(t, SourceOptions{Address: a.address()})
	ready(t, s)
	a.issuer.RemoveEntry(app)
	eventually(t, "SVID is revoked", func() bool { _, err := s.SVID(); return errors.Is(err, ErrRevoked) })
	_, err := s.GetX509BundleForTrustDomain(td)
	wantError(t, err, ErrRevoked)
	_, err = s.GetJWTBundleForTrustDomain(td)
	wantError(t, err, ErrRevoked)
	_, _, err = s.FetchJWTSVID(t.Context(), "a")
	wantError(t, err, ErrRevoked)

	a.stop()
	a.start(embedded.Entry{ID: app})
	eventually(t, "the entry is back", func() bool { _, err := s.SVID(); return err == nil })
}

func TestSourceIsNotReadyWhileDenied(t *testing.T) {
	a := newAgent(t, embedded.Options{})
	s := runSource(t, SourceOptions{Address: a.address()})
	eventually(t, "denied", func() bool { _, err := s.SVID(); return errors.Is(err, ErrRevoked) })
	eventually(t, "JWT denied", func() bool { return s.jwt.Load() != nil })
	select {
	case <-s.Ready():
		t.Error("ready without an identity")
	default:
	}
}

// TestSourceIsReadyOnlyWithBoth: in whatever order the two streams speak.
func TestSourceIsReadyOnlyWithBoth(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	x, _ := i.Bundles().GetX509BundleForTrustDomain(td)
	j, _ := i.Bundles().GetJWTBundleForTrustDomain(td)
	steps := map[string]func(*Source){
		"x509": func(s *Source) {
			c := &workloadapi.X509Context{SVIDs: []*x509svid.SVID{mintX509(t, i, app, 0)}, Bundles: x509bundle.NewSet(x)}
			x509Watcher{s}.OnX509ContextUpdate(c)
		},
		"jwt":         func(s *Source) { jwtWatcher{s}.OnJWTBundlesUpdate(jwtbundle.NewSet(j)) },
		"x509 denied": func(s *Source) { x509Watcher{s}.OnX509ContextWatchError(status.Error(codes.PermissionDenied, "")) },
		"jwt denied":  func(s *Source) { jwtWatcher{s}.OnJWTBundlesWatchError(status.Error(codes.PermissionDenied, "")) },
	}
	for _, tt := range []struct {
		order []string
		want  bool
	}{
		{[]string{"x509"}, false},
		{[]string{"jwt"}, false},
		{[]string{"x509", "jwt"}, true},
		{[]string{"jwt", "x509"}, true},
		{[]string{"x509 denied", "jwt"}, false},
		{[]string{"jwt denied", "x509"}, false},
		{[]string{"x509 denied", "jwt", "x509"}, true},
	} {
		s := fed(t, SourceOptions{})
		for _, step := range tt.order {
			steps[step](s)
		}
		select {
		case <-s.Ready():
			if !tt.want {
				t.Errorf("%v: ready", tt.order)
			}
		default:
			if tt.want {
				t.Errorf("%v: not ready", tt.order)
			}
		}
	}
}

// fed returns a source that is told answers directly, for tests of time.
func fed(t testing.TB, o SourceOptions) *Source {
	t.Helper()
	o.Address = "unix:///nowhere"
	if o.TrustDomains == nil {
		o.TrustDomains = ourTDs
	}
	s, err := NewSource(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func feed(t testing.TB, s *Source, i *embedded.Issuer, svids ...*x509svid.SVID) {
	t.Helper()
	x, err1 := i.Bundles().GetX509BundleForTrustDomain(td)
	j, err2 := i.Bundles().GetJWTBundleForTrustDomain(td)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	x509Watcher{s}.OnX509ContextUpdate(&workloadapi.X509Context{SVIDs: svids, Bundles: x509bundle.NewSet(x.Clone())})
	jwtWatcher{s}.OnJWTBundlesUpdate(jwtbundle.NewSet(j.Clone()))
}

// TestMUST_I7_OwnSVIDIsSelectedStrictly: several answers and nothing that selects one.
func TestMUST_I7_OwnSVIDIsSelectedStrictly(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	foreign := newIssuer(t, embedded.Options{TrustDomain: enemy})
	a, b := mintX509(t, i, app, 0), mintX509(t, i, other, 0)
	a.Hint, b.Hint = "internal", "external"
	alien := mintX509(t, foreign, spiffeid.RequireFromPath(enemy, "/app"), 0)
	tests := []struct {
		name  string
		o     SourceOptions
		svids []*x509svid.SVID
		want  *x509svid.SVID
		err   error
	}{
		{"the only one", SourceOptions{}, []*x509svid.SVID{a}, a, nil},
		{"several", SourceOptions{}, []*x509svid.SVID{a, b}, nil, ErrInvalid},
		{"by id", SourceOptions{ID: other}, []*x509svid.SVID{a, b}, b, nil},
		{"by hint", SourceOptions{Hint: "external"}, []*x509svid.SVID{a, b}, b, nil},
		{"the only one has another id", SourceOptions{ID: other}, []*x509svid.SVID{a}, nil, ErrRevoked},
		{"the only one has another hint", SourceOptions{Hint: "external"}, []*x509svid.SVID{a}, nil, ErrRevoked},
		{"id and hint disagree", SourceOptions{ID: app, Hint: "external"}, []*x509svid.SVID{a, b}, nil, ErrRevoked},
		{"of a foreign trust domain", SourceOptions{}, []*x509svid.SVID{alien}, nil, ErrTrustDomain},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := fed(t, tt.o)
			feed(t, s, i, tt.svids...)
			got, err := s.SVID()
			wantError(t, err, tt.err)
			if got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
			if _, err := s.GetX509BundleForTrustDomain(td); err != nil {
				t.Errorf("bundles do not depend on it: %v", err)
			}
		})
	}
}

func TestSourceKeepsUntilTheTrueEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := newIssuer(t, embedded.Options{})
		s := fed(t, SourceOptions{})
		feed(t, s, i, mintX509(t, i, app, time.Hour))
		if got := s.secondsLeft(); got != 3600 {
			t.Errorf("seconds left = %v", got)
		}
		x509Watcher{s}.OnX509ContextWatchError(status.Error(codes.Unavailable, "agent is away"))
		jwtWatcher{s}.OnJWTBundlesWatchError(context.Canceled)
		time.Sleep(time.Hour - time.Nanosecond)
		if _, err := s.SVID(); err != nil {
			t.Errorf("just before the end: %v", err)
		}
		time.Sleep(time.Nanosecond)
		_, err := s.SVID()
		wantError(t, err, ErrExpired)
		_, err = s.GetX509BundleForTrustDomain(td)
		wantError(t, err, ErrUnavailable)
		_, err = s.GetJWTBundleForTrustDomain(td)
		wantError(t, err, ErrUnavailable)
		if got := s.secondsLeft(); got != 0 {
			t.Errorf("seconds left = %v", got)
		}
	})
}

func TestSourceWithoutJWTProfile(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	s := fed(t, SourceOptions{})
	x, _ := i.Bundles().GetX509BundleForTrustDomain(td)
	x509Watcher{s}.OnX509ContextUpdate(&workloadapi.X509Context{SVIDs: []*x509svid.SVID{mintX509(t, i, app, 0)}, Bundles: x509bundle.NewSet(x)})
	jwtWatcher{s}.OnJWTBundlesWatchError(status.Error(codes.Unimplemented, "no"))
	ready(t, s)
	_, err := s.GetJWTBundleForTrustDomain(td)
	wantError(t, err, ErrUnavailable)
}

// TestSourceKeepsEqualBundles: an answer that changes nothing for callers must not make
// every connection verify again.
func TestSourceKeepsEqualBundles(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	s := fed(t, SourceOptions{})
	bundles := func() (any, any) {
		feed(t, s, i, mintX509(t, i, app, 0))
		x, err1 := s.GetX509BundleForTrustDomain(td)
		j, err2 := s.GetJWTBundleForTrustDomain(td)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		return x, j
	}
	x1, j1 := bundles()
	x2, j2 := bundles()
	if x1 != x2 || j1 != j2 {
		t.Error("equal bundles were replaced")
	}
	rotate(t, i, 1)
	if x3, j3 := bundles(); x1 == x3 || j1 == j3 {
		t.Error("changed bundles were kept")
	}
}

func TestBackoff(t *testing.T) {
	b := jitteredBackoff{}.NewBackoff()
	for want := firstRetry; want <= 4*lastRetry; want *= 2 {
		limit := min(want, lastRetry)
		if got := b.Next(); got < limit/2 || got >= limit {
			t.Errorf("waits %v, want [%v, %v)", got, limit/2, limit)
		}
	}
	b.Reset()
	if got := b.Next(); got >= firstRetry {
		t.Errorf("after reset it waits %v", got)
	}
}

// TestPersist: go-spiffe's watch returns for good on some errors; ours never does.
func TestPersist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		watches := 0
		persist(ctx, func() error { watches++; return status.Error(codes.InvalidArgument, "no") })
		if watches < 5 || watches > 15 {
			t.Errorf("tried %d times in a minute", watches)
		}
	})
}

// TestSourceReadsDoNotAllocate: they run once or more per request.
func TestSourceReadsDoNotAllocate(t *testing.T) {
	i := newIssuer(t, embedded.Options{})
	s := fed(t, SourceOptions{})
	feed(t, s, i, mintX509(t, i, app, 0))
	n := testing.AllocsPerRun(100, func() {
		_, _ = s.SVID()
		_, _ = s.GetX509BundleForTrustDomain(td)
		_, _ = s.GetJWTBundleForTrustDomain(td)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
