// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package openai

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	identityProvider = "idp_abc"
	account          = "svcacct_abc"
	id               = "spiffe://acme.example/ns/qa/sa/dashboard"
)

// twin is POST /oauth/token as it is documented
// (developers.openai.com/api/reference/workload-identity-federation).
type twin struct {
	jwks []byte
	mu   sync.Mutex
	told string // instead of the true lifetime
	n    int
}

func newTwin(d *svidtest.Domain) *twin { return &twin{jwks: d.JWKS()} }

func (w *twin) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	life, status, code := w.exchange(r)
	if status != 0 {
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]string{"error": code, "error_description": "hush-hush"})
		return
	}
	w.n++
	told := fmt.Sprint(int(life.Seconds()))
	if w.told != "" {
		told = w.told
	}
	_, _ = fmt.Fprintf(rw, `{"access_token":"eyJ-openai-%d","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","token_type":"Bearer","expires_in":%s}`, w.n, told)
}

func (w *twin) exchange(r *http.Request) (life time.Duration, status int, code string) {
	var body map[string]string
	switch {
	case r.Method != http.MethodPost || r.Host != "auth.openai.com" || r.URL.Path != "/oauth/token" || r.URL.RawQuery != "":
		return 0, 404, "not_found"
	case r.Header.Get("Content-Type") != "application/json" || json.NewDecoder(r.Body).Decode(&body) != nil || r.Header.Get("Authorization") != "":
		return 0, 400, "invalid_request"
	case body["grant_type"] != "urn:ietf:params:oauth:grant-type:token-exchange":
		return 0, 400, "unsupported_grant_type"
	case body["subject_token_type"] != "urn:ietf:params:oauth:token-type:jwt", len(body) != 5:
		return 0, 400, "invalid_request"
	case body["identity_provider_id"] != identityProvider, body["service_account_id"] != account:
		return 0, 403, "access_denied"
	}
	claims, err := svidtest.Verify(w.jwks, body["subject_token"], svidtest.Expect{Audience: Audience, Subject: id})
	if err != nil {
		return 0, 400, "invalid_grant"
	}
	return min(time.Hour, time.Until(claims.Expiry.Time())), 0, ""
}

func provider(t *testing.T, s *issuertest.Server, change func(*Config)) *Provider {
	t.Helper()
	c := Config{IdentityProvider: identityProvider, ServiceAccount: account, Reach: s.Options()}
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

func TestToken(t *testing.T) {
	d := svidtest.New(t)
	sub := d.Subject(id)
	tok, err := provider(t, issuertest.NewServer(t, newTwin(d)), nil).Fetch(t.Context(), credential.Key{}, sub)
	if err != nil || tok.Values["token"].Reveal() != "eyJ-openai-1" || sub.Asked()[0] != Audience {
		t.Fatalf("%+v, %v, asked for %q", tok, err, sub.Asked())
	}
}

func TestTokenNeverOutlivesTheSVID(t *testing.T) {
	d := svidtest.New(t)
	w := newTwin(d)
	p := provider(t, issuertest.NewServer(t, w), nil)
	sub := d.Subject(id)
	for _, told := range []string{"", "3600", "1e300", "0", "-1", "null", `"soon"`} {
		w.mu.Lock()
		w.told = told
		w.mu.Unlock()
		tok, err := p.Fetch(t.Context(), credential.Key{}, sub)
		if err != nil || tok.Lifetime <= 4*time.Minute || tok.Lifetime > 5*time.Minute {
			t.Errorf("expires_in %s: %s, %v", told, tok.Lifetime, err)
		}
	}
	w.mu.Lock()
	w.told = "60"
	w.mu.Unlock()
	if tok, err := p.Fetch(t.Context(), credential.Key{}, sub); err != nil || tok.Lifetime != time.Minute {
		t.Errorf("%s, %v", tok.Lifetime, err)
	}
}

func TestOpenAIRefuses(t *testing.T) {
	d, stranger := svidtest.New(t), svidtest.New(t)
	for name, tc := range map[string]struct {
		change func(*Config)
		sub    *svidtest.Subject
		want   string
	}{
		"another provider": {func(c *Config) { c.IdentityProvider = "idp_x" }, d.Subject(id), "access_denied"},
		"another account":  {func(c *Config) { c.ServiceAccount = "x" }, d.Subject(id), "access_denied"},
		"another audience": {func(c *Config) { c.AssertionAudience = "x" }, d.Subject(id), "invalid_grant"},
		"another subject":  {nil, d.Subject(id + "x"), "invalid_grant"},
		"another domain":   {nil, stranger.Subject(id), "invalid_grant"},
	} {
		_, err := provider(t, issuertest.NewServer(t, newTwin(d)), tc.change).Fetch(t.Context(), credential.Key{}, tc.sub)
		if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), tc.want) || strings.Contains(e.Error(), "hush") {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// anonymous is a subject of a SPIRE without jwt_issuer.
type anonymous struct{}

func (anonymous) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	enc := base64.RawURLEncoding.EncodeToString
	return secret.New(enc([]byte(`{"alg":"ES256"}`)) + "." + enc([]byte(`{"aud":"`+Audience+`","exp":4102444800,"iat":1}`)) + ".c2ln"), time.Now(), nil
}

func (anonymous) X509SVID(context.Context) (tls.Certificate, error) { return tls.Certificate{}, nil }

func TestMUST_I10_TheSVIDIsForOpenAIAlone(t *testing.T) {
	d := svidtest.New(t)
	s := issuertest.NewServer(t, newTwin(d))
	p := provider(t, s, nil)
	sub := d.Subject(id)
	sub.Audience = []string{Audience, "egret"}
	_, err := p.Fetch(t.Context(), credential.Key{}, sub)
	wantError(t, err, credential.NotMinted)
	_, err = p.Fetch(t.Context(), credential.Key{}, nil)
	wantError(t, err, credential.Unconfigured)
	_, err = p.Fetch(t.Context(), credential.Key{}, anonymous{})
	if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), "jwt_issuer") {
		t.Error(e)
	}
	if s.Asked() != 0 {
		t.Error("OpenAI was asked")
	}
}

func TestFaultMatrix(t *testing.T) {
	d := svidtest.New(t)
	issuertest.Matrix{
		Twin:     func(*testing.T) http.Handler { return newTwin(d) },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider { return provider(t, s, nil) },
		Subject:  d.Subject(id), Secrets: []string{"eyJ"},
	}.Run(t)
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	for _, c := range []Config{{}, {IdentityProvider: identityProvider}, {ServiceAccount: account}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
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
