// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package google

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider makes one that asks the twin; change may set more.
func (w *world) provider(t *testing.T, change func(*Config)) *Provider {
	t.Helper()
	return made(t, issuertest.NewServer(t, w.twin), change)
}

func made(t *testing.T, s *issuertest.Server, change func(*Config)) *Provider {
	t.Helper()
	c := Config{WorkloadProvider: workloadProvider, Reach: s.Options()}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestFederatedToken(t *testing.T) {
	w := newWorld(t)
	tok, err := w.provider(t, nil).Fetch(t.Context(), credential.Key{}, w.subject)
	if err != nil || tok.Values["token"].Reveal() != "ya29.d.federated-1" || tok.Lifetime != 3599*time.Second {
		t.Fatalf("%+v, %v", tok, err)
	}
	if d := cmp.Diff([]string{"https://iam.googleapis.com/" + workloadProvider}, w.subject.Asked()); d != "" {
		t.Error(d)
	}
	if scope := w.forms[0].Get("scope"); scope != CloudPlatform || len(w.bodies) != 0 {
		t.Errorf("scope %q, %d calls for an account", scope, len(w.bodies))
	}
}

func TestServiceAccount(t *testing.T) {
	w := newWorld(t)
	scope := "https://www.googleapis.com/auth/devstorage.read_only"
	p := w.provider(t, func(c *Config) {
		c.ServiceAccount, c.Delegates, c.Lifetime, c.Scopes = account, []string{between}, 10*time.Minute, []string{scope}
	})
	tok, err := p.Fetch(t.Context(), credential.Key{}, w.subject)
	if err != nil || tok.Values["token"].Reveal() != "ya29.c.account" {
		t.Fatalf("%+v, %v", tok, err)
	}
	if tok.Lifetime < 9*time.Minute || tok.Lifetime > 10*time.Minute+2*time.Second {
		t.Errorf("lifetime %s", tok.Lifetime)
	}
	want := map[string]any{"scope": []any{scope}, "lifetime": "600s", "delegates": []any{"projects/-/serviceAccounts/" + between}}
	if d := cmp.Diff(want, w.bodies[0]); d != "" {
		t.Error(d)
	}
	if got := w.forms[0].Get("scope"); got != CloudPlatform {
		t.Errorf("the federated token is asked for %q, and must be able to impersonate", got)
	}
}

func TestIDToken(t *testing.T) {
	w := newWorld(t)
	p := w.provider(t, func(c *Config) {
		c.ServiceAccount, c.IDTokenAudience, c.IncludeEmail = account, "https://run.acme.example", true
	})
	tok, err := p.Fetch(t.Context(), credential.Key{}, w.subject)
	if err != nil || strings.Count(tok.Values["token"].Reveal(), ".") != 2 || tok.Lifetime != time.Hour {
		t.Fatalf("%+v, %v", tok, err)
	}
	if d := cmp.Diff(map[string]any{"audience": "https://run.acme.example", "includeEmail": true}, w.bodies[0]); d != "" {
		t.Error(d)
	}
	for _, bad := range []string{"x", "a.b.c", "a.bnVsbA.c", "a.e30.c", "a.eyJleHAiOjEsImlhdCI6MTAwfQ.c"} {
		w.mu.Lock()
		w.idToken = bad
		w.mu.Unlock()
		if tok, err := p.Fetch(t.Context(), credential.Key{}, w.subject); err == nil && tok.Lifetime != 0 {
			t.Errorf("%q: lifetime %s is believed", bad, tok.Lifetime)
		}
	}
}

// The subject is held to Google's limit before Google is asked.
func TestSubjectThatIsTooLong(t *testing.T) {
	w := newWorld(t)
	s := issuertest.NewServer(t, w.twin)
	for n, ok := range map[int]bool{127: true, 128: false} {
		sub := w.domain.Subject("spiffe://acme.example/" + strings.Repeat("x", n-len("spiffe://acme.example/")))
		before := s.Asked()
		_, err := made(t, s, nil).Fetch(t.Context(), credential.Key{}, sub)
		if ok != (err == nil) || !ok && s.Asked() != before {
			t.Errorf("%d bytes: %v, %d calls", n, err, s.Asked()-before)
		}
		if !ok {
			e := wantError(t, err, credential.Refused)
			for _, part := range []string{"has 128 bytes", "google.subject at most 127", "set mappedSubject"} {
				if !strings.Contains(e.Error(), part) {
					t.Errorf("%v must say %q", e, part)
				}
			}
		}
	}
	long := w.domain.Subject("spiffe://acme.example/" + strings.Repeat("x", 200))
	_, err := made(t, s, func(c *Config) { c.MappedSubject = true }).Fetch(t.Context(), credential.Key{}, long)
	if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), "invalid_grant") { // this pool maps it as it is
		t.Error(e)
	}
}

func TestGoogleRefuses(t *testing.T) {
	stranger := svidtest.New(t)
	for name, tc := range map[string]struct {
		change func(*Config)
		spoil  func(*world)
		want   string
	}{
		"unknown pool":       {func(c *Config) { c.WorkloadProvider += "x"; c.AssertionAudience = "x" }, nil, "invalid_target"},
		"another audience":   {func(c *Config) { c.AssertionAudience = "https://other.example" }, nil, "invalid_grant"},
		"another domain":     {nil, func(w *world) { w.subject = stranger.Subject(id) }, "invalid_grant"},
		"unknown account":    {func(c *Config) { c.ServiceAccount = "x@acme-prod.iam.gserviceaccount.com" }, nil, "PERMISSION_DENIED"},
		"too long a life":    {func(c *Config) { c.ServiceAccount, c.Lifetime = account, 2*time.Hour }, nil, "INVALID_ARGUMENT"},
		"account with slash": {func(c *Config) { c.ServiceAccount = "a/../" + account }, nil, "NOT_FOUND"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if tc.spoil != nil {
				tc.spoil(w)
			}
			_, err := w.provider(t, tc.change).Fetch(t.Context(), credential.Key{}, w.subject)
			if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), tc.want) || strings.Contains(e.Error(), "hush") {
				t.Errorf("%v, want %s", e, tc.want)
			}
		})
	}
	w := newWorld(t)
	w.long = true
	if _, err := w.provider(t, func(c *Config) { c.ServiceAccount, c.Lifetime = account, 2*time.Hour }).Fetch(t.Context(), credential.Key{}, w.subject); err != nil {
		t.Errorf("with the organization policy: %v", err)
	}
}

func TestMUST_C5_ExpireTimeVariants(t *testing.T) {
	w := newWorld(t)
	p := w.provider(t, func(c *Config) { c.ServiceAccount = account })
	for raw, ok := range map[string]func(time.Duration) bool{
		"soon": zero, "1700000000": zero, "3600s": zero,
		"2001-01-01T00:00:00Z": func(d time.Duration) bool { return d > 0 && d < time.Second }, // told, and over
		"2999-01-01T00:00:00Z": func(d time.Duration) bool { return d > 365*24*time.Hour },     // absurd; the Cache sees that
		time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05.999999999Z07:00"): func(d time.Duration) bool {
			return d > 59*time.Minute && d < 61*time.Minute
		},
	} {
		w.mu.Lock()
		w.expire = raw
		w.mu.Unlock()
		tok, err := p.Fetch(t.Context(), credential.Key{}, w.subject)
		if err != nil || !ok(tok.Lifetime) {
			t.Errorf("expireTime %q: %s, %v", raw, tok.Lifetime, err)
		}
	}
}

func zero(d time.Duration) bool { return d == 0 }

func TestMUST_I10_TheSVIDIsForGoogleAlone(t *testing.T) {
	w := newWorld(t)
	w.subject.Audience = []string{"https://iam.googleapis.com/" + workloadProvider, "egret"}
	s := issuertest.NewServer(t, w.twin)
	_, err := made(t, s, nil).Fetch(t.Context(), credential.Key{}, w.subject)
	if wantError(t, err, credential.NotMinted); s.Asked() != 0 {
		t.Error("Google was asked")
	}
	_, err = made(t, s, nil).Fetch(t.Context(), credential.Key{}, nil)
	wantError(t, err, credential.Unconfigured)
}

func TestFaultMatrix(t *testing.T) {
	d := svidtest.New(t)
	m := issuertest.Matrix{
		Twin:     func(*testing.T) http.Handler { return newTwin(d) },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider { return made(t, s, nil) },
		Subject:  d.Subject(id), Lifetime: "expires_in", Secrets: []string{"ya29.", "eyJ"},
	}
	t.Run("federated", m.Run)
	m.Lifetime = ""
	m.Provider = func(t *testing.T, s *issuertest.Server) credential.Provider {
		return made(t, s, func(c *Config) { c.ServiceAccount = account })
	}
	m.At = "/v1/token"
	t.Run("first of two", m.Run)
	m.At = "/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken"
	t.Run("account", m.Run)
	m.At = "/v1/projects/-/serviceAccounts/" + account + ":generateIdToken"
	m.Provider = func(t *testing.T, s *issuertest.Server) credential.Provider {
		return made(t, s, func(c *Config) { c.ServiceAccount, c.IDTokenAudience = account, "https://run.acme.example" })
	}
	t.Run("ID token", m.Run)
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	for want, c := range map[string]Config{
		`provider "" must be projects`:         {},
		`"https://evil.example/x" must be`:     {WorkloadProvider: "https://evil.example/x"},
		`"projects/1?x" must be`:               {WorkloadProvider: "projects/1?x"},
		"an ID token need a service account":   {WorkloadProvider: workloadProvider, IDTokenAudience: "x"},
		"delegates, lifetime and an ID token ": {WorkloadProvider: workloadProvider, Delegates: []string{between}},
		"lifetime and an ID token need":        {WorkloadProvider: workloadProvider, Lifetime: time.Hour},
	} {
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func wantError(t testing.TB, err error, k credential.Kind) *credential.Error {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != k {
		t.Fatalf("err = %v (%T), want %s", err, err, k)
	}
	return e
}
