// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package anthropic

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	rule         = "fdrl_01Abc"
	organization = "11111111-2222-3333-4444-555555555555"
	account      = "svac_01Abc"
	workspace    = "wrkspc_01Abc"
	id           = "spiffe://acme.example/ns/qa/sa/dashboard"
)

// twin is POST /v1/oauth/token as it is documented
// (platform.claude.com/docs/manage-claude/wif-reference) and as the SDKs ask it.
type twin struct {
	jwks   []byte
	once   bool // the rule takes each jti once
	single bool // the rule has one workspace
	told   string

	mu     sync.Mutex
	seen   map[string]bool
	bodies []map[string]string
}

func newTwin(d *svidtest.Domain) *twin {
	return &twin{jwks: d.JWKS(), single: true, told: "3600", seen: map[string]bool{}}
}

func (w *twin) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rw.Header().Set("Content-Type", "application/json")
	rw.Header().Set("Request-Id", "req_hush-hush")
	status, code := w.flaw(r)
	if status != 0 {
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]string{"error": code, "error_description": "hush-hush"})
		return
	}
	_, _ = fmt.Fprintf(rw, `{"access_token":"sk-ant-oat01-%d","token_type":"Bearer","expires_in":%s,"scope":"workspace:developer"}`, len(w.bodies), w.told)
}

func (w *twin) flaw(r *http.Request) (int, string) {
	var body map[string]string
	dec := json.NewDecoder(r.Body)
	beta := "," + r.Header.Get("Anthropic-Beta") + ","
	switch {
	case r.Method != http.MethodPost || r.Host != "api.anthropic.com" || r.URL.Path != "/v1/oauth/token" || r.URL.RawQuery != "":
		return 404, "not_found"
	case r.Header.Get("Content-Type") != "application/json" || dec.Decode(&body) != nil || r.Header.Get("X-Api-Key") != "" || r.Header.Get("Authorization") != "":
		return 400, "invalid_request"
	case !strings.Contains(beta, ",oidc-federation-2026-04-01,"): // another service answers without
		return 400, "unsupported_grant_type"
	case body["grant_type"] != "urn:ietf:params:oauth:grant-type:jwt-bearer":
		return 400, "unsupported_grant_type"
	case len(body["assertion"]) > 16<<10:
		return 400, "invalid_request"
	}
	w.bodies = append(w.bodies, body)
	for k := range body {
		switch k {
		case "grant_type", "assertion", "federation_rule_id", "organization_id", "service_account_id", "workspace_id":
		default:
			return 400, "invalid_request"
		}
	}
	ws := body["workspace_id"]
	if body["federation_rule_id"] != rule || body["organization_id"] != organization || body["service_account_id"] != account ||
		ws != workspace && (ws != "" || !w.single) {
		return 401, "invalid_grant"
	}
	claims, err := svidtest.Verify(w.jwks, body["assertion"], svidtest.Expect{Audience: Audience, Subject: id})
	if err != nil || w.once && (claims.ID == "" || w.seen[claims.ID]) {
		return 401, "invalid_grant"
	}
	w.seen[claims.ID] = true
	return 0, ""
}

func provider(t *testing.T, s *issuertest.Server, change func(*Config)) *Provider {
	t.Helper()
	c := Config{FederationRule: rule, Organization: organization, ServiceAccount: account, Reach: s.Options()}
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
	w := newTwin(d)
	s := issuertest.NewServer(t, w)
	for _, ws := range []string{"", workspace} {
		sub := d.Subject(id)
		tok, err := provider(t, s, func(c *Config) { c.Workspace = ws }).Fetch(t.Context(), credential.Key{}, sub)
		if err != nil || !strings.HasPrefix(tok.Values["token"].Reveal(), "sk-ant-oat01-") || tok.Lifetime != time.Hour || sub.Asked()[0] != Audience {
			t.Fatalf("%+v, %v, asked for %q", tok, err, sub.Asked())
		}
		want := map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "federation_rule_id": rule,
			"organization_id": organization, "service_account_id": account}
		if ws != "" {
			want["workspace_id"] = ws
		}
		got := w.bodies[len(w.bodies)-1]
		delete(got, "assertion")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestAnthropicRefuses(t *testing.T) {
	d, stranger := svidtest.New(t), svidtest.New(t)
	for name, tc := range map[string]struct {
		change func(*Config)
		sub    *svidtest.Subject
		single bool
		want   string
	}{
		"another rule":       {func(c *Config) { c.FederationRule = "fdrl_x" }, d.Subject(id), true, "the federation rule must match"},
		"another account":    {func(c *Config) { c.ServiceAccount = "svac_x" }, d.Subject(id), true, "invalid_grant"},
		"another domain":     {nil, stranger.Subject(id), true, "invalid_grant"},
		"another subject":    {nil, d.Subject(id + "x"), true, "SVID's iss, sub and aud"},
		"another audience":   {func(c *Config) { c.AssertionAudience = "x" }, d.Subject(id), true, "invalid_grant"},
		"several workspaces": {nil, d.Subject(id), false, "one of several workspaces be named"},
	} {
		w := newTwin(d)
		w.single = tc.single
		_, err := provider(t, issuertest.NewServer(t, w), tc.change).Fetch(t.Context(), credential.Key{}, tc.sub)
		if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), tc.want) || strings.Contains(e.Error(), "hush") {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestMUST_C11_AnSVIDIsNotExchangedTwiceUnseen(t *testing.T) {
	d := svidtest.New(t)
	w := newTwin(d)
	w.once = true
	p := provider(t, issuertest.NewServer(t, w), nil)
	sub := d.Subject(id)
	sub.JTI = "unique"
	if _, err := p.Fetch(t.Context(), credential.Key{}, sub); err != nil {
		t.Fatal(err)
	}
	_, err := p.Fetch(t.Context(), credential.Key{}, sub) // the agent gave the same one again
	if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), "jwtSVIDIncludeJTI") {
		t.Error(e)
	}
}

// bare is a subject whose tokens have these claims and no signature that counts.
type bare string

func (b bare) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	enc := base64.RawURLEncoding.EncodeToString
	return secret.New(enc([]byte(`{"alg":"ES256"}`)) + "." + enc([]byte(b)) + ".c2ln"), time.Now().Add(time.Hour), nil
}

func (bare) X509SVID(context.Context) (tls.Certificate, error) { return tls.Certificate{}, nil }

func TestWhatAnthropicNeedsIsCheckedBefore(t *testing.T) {
	s := issuertest.NewServer(t, newTwin(svidtest.New(t)))
	for want, claims := range map[string]string{
		"set jwt_issuer in SPIRE's server": `{"aud":"` + Audience + `","exp":4102444800,"iat":1}`,
		"has no iat":                       `{"aud":"` + Audience + `","exp":4102444800,"iss":"x"}`,
		"reads at most 16384":              `{"aud":"` + Audience + `","exp":4102444800,"iss":"x","iat":1,"x":"` + strings.Repeat("x", 16<<10) + `"}`,
	} {
		_, err := provider(t, s, nil).Fetch(t.Context(), credential.Key{}, bare(claims))
		if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), want) {
			t.Errorf("%v, want %s", e, want)
		}
	}
	if s.Asked() != 0 {
		t.Error("Anthropic was asked")
	}
}

func TestMUST_C5_LivesThatNoRuleCanGive(t *testing.T) {
	d := svidtest.New(t)
	w := newTwin(d)
	p := provider(t, issuertest.NewServer(t, w), nil)
	for told, want := range map[string]time.Duration{"60": time.Minute, "86400": 24 * time.Hour, "86401": 0, "604800": 0} {
		w.mu.Lock()
		w.told = told
		w.mu.Unlock()
		if tok, err := p.Fetch(t.Context(), credential.Key{}, d.Subject(id)); err != nil || tok.Lifetime != want {
			t.Errorf("expires_in %s: %s, %v", told, tok.Lifetime, err)
		}
	}
}

// A request that the API itself has refused comes in another form.
func TestErrorsInTheFormOfTheAPI(t *testing.T) {
	d := svidtest.New(t)
	for body, want := range map[string]credential.Kind{
		`{"type":"error","error":{"type":"invalid_request_error","message":"hush-hush"}}`: credential.Refused,
		`{"type":"error","error":{"type":"rate_limit_error","message":"hush-hush"}}`:      credential.Unreachable,
		`{"type":"error","error":{"type":"hush-hush","message":"hush-hush"}}`:             credential.Refused,
	} {
		p := provider(t, issuertest.NewServer(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.Copy(rw, bytes.NewReader([]byte(body)))
		})), nil)
		_, err := p.Fetch(t.Context(), credential.Key{}, d.Subject(id))
		if e := wantError(t, err, want); strings.Contains(e.Error(), "hush") {
			t.Error(e)
		}
	}
}

func TestMUST_I10_TheSVIDIsForAnthropicAlone(t *testing.T) {
	d := svidtest.New(t)
	s := issuertest.NewServer(t, newTwin(d))
	sub := d.Subject(id)
	sub.Audience = []string{Audience, "egret"}
	_, err := provider(t, s, nil).Fetch(t.Context(), credential.Key{}, sub)
	wantError(t, err, credential.NotMinted)
	_, err = provider(t, s, nil).Fetch(t.Context(), credential.Key{}, nil)
	if wantError(t, err, credential.Unconfigured); s.Asked() != 0 {
		t.Error("Anthropic was asked")
	}
}

func TestFaultMatrix(t *testing.T) {
	d := svidtest.New(t)
	issuertest.Matrix{
		Twin:     func(*testing.T) http.Handler { return newTwin(d) },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider { return provider(t, s, nil) },
		Subject:  d.Subject(id), Lifetime: "expires_in", Secrets: []string{"sk-ant", "eyJ"},
	}.Run(t)
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	for _, c := range []Config{{}, {FederationRule: rule, Organization: organization}, {FederationRule: rule, ServiceAccount: account}} {
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
