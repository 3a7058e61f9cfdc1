// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	tenant   = "11111111-2222-3333-4444-555555555555"
	clientID = "66666666-7777-8888-9999-000000000000"
	scope    = "https://graph.microsoft.com/.default"
	id       = "spiffe://acme.example/ns/qa/sa/dashboard"
)

// twin is the token endpoint as it is documented (learn.microsoft.com, "OAuth 2.0 client
// credentials flow", "workload identity federation", and the list of error codes).
type twin struct {
	jwks     []byte
	host     string
	audience string // of the federated credential
	subject  string
	code     atomic.Int64 // refuse with it
	issued   atomic.Int64
}

func newTwin(d *svidtest.Domain) *twin {
	return &twin{jwks: d.JWKS(), host: "login.microsoftonline.com", audience: "api://AzureADTokenExchange", subject: id}
}

func (w *twin) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	status, oauth, code := w.flaw(r)
	if code != 0 {
		refuse(rw, status, oauth, code)
		return
	}
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	_, _ = fmt.Fprintf(rw, `{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"eyJ0-%d"}`, w.issued.Add(1))
}

// refuse answers in the documented form: text with the claims, and codes as numbers.
func refuse(rw http.ResponseWriter, status int, oauth string, code int) {
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(map[string]any{
		"error": oauth, "error_description": fmt.Sprintf("AADSTS%d: hush-hush.\r\nTrace ID: hush-hush", code), "error_codes": []int{code},
		"timestamp": "2026-07-01 02:02:12Z", "trace_id": "hush-hush", "correlation_id": "hush-hush", "error_uri": "https://hush-hush",
	})
}

func (w *twin) flaw(r *http.Request) (status int, oauth string, code int) {
	if r.Method != http.MethodPost || r.Host != w.host || r.URL.Path != "/"+tenant+"/oauth2/v2.0/token" || r.URL.RawQuery != "" {
		return 400, "invalid_request", 90002
	}
	if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.ParseForm() != nil || r.Header.Get("Authorization") != "" {
		return 400, "invalid_request", 900144
	}
	want := map[string]string{"grant_type": "client_credentials", "client_id": clientID, "scope": scope,
		"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion": ""}
	for k, v := range r.PostForm {
		expected, known := want[k]
		switch {
		case !known || len(v) != 1 || v[0] == "":
			return 400, "invalid_request", 900144
		case k == "client_id" && v[0] != expected:
			return 400, "unauthorized_client", 700016
		case k == "scope" && v[0] != expected:
			return 400, "invalid_scope", 70011
		case expected != "" && v[0] != expected:
			return 400, "invalid_request", 900144
		}
	}
	if len(r.PostForm) != len(want) {
		return 400, "invalid_request", 900144
	}
	if c := int(w.code.Load()); c != 0 {
		return 400, "invalid_request", c
	}
	return w.assertion(r.PostForm.Get("client_assertion"))
}

// assertion accepts RS256 alone, and looks for the federated credential.
func (w *twin) assertion(raw string) (status int, oauth string, code int) {
	claims, err := svidtest.Verify(w.jwks, raw, svidtest.Expect{Audience: w.audience, Subject: w.subject, Algorithms: []jose.SignatureAlgorithm{jose.RS256}})
	switch {
	case err == nil:
		return 0, "", 0
	case strings.HasPrefix(err.Error(), "aud"):
		return 400, "invalid_request", 700212
	case strings.HasPrefix(err.Error(), "sub") && claims.Subject != "":
		return 400, "invalid_request", 700213
	case strings.Contains(err.Error(), "ended"):
		return 401, "invalid_client", 700024
	}
	return 401, "invalid_client", 700027
}

func provider(t *testing.T, s *issuertest.Server, change func(*Config)) *Provider {
	t.Helper()
	c := Config{Tenant: tenant, ClientID: clientID, Scope: scope, Reach: s.Options()}
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

func TestTokenInEveryCloud(t *testing.T) {
	d := svidtest.NewRSA(t)
	for authority, want := range map[string][2]string{
		"":                                  {"login.microsoftonline.com", "api://AzureADTokenExchange"},
		"public":                            {"login.microsoftonline.com", "api://AzureADTokenExchange"},
		"usgovernment":                      {"login.microsoftonline.us", "api://AzureADTokenExchangeUSGov"},
		"china":                             {"login.partner.microsoftonline.cn", "api://AzureADTokenExchangeChina"},
		"https://login.stack.acme.example/": {"login.stack.acme.example", "api://AzureADTokenExchange"},
	} {
		w := newTwin(d)
		w.host, w.audience = want[0], want[1]
		sub := d.Subject(id)
		tok, err := provider(t, issuertest.NewServer(t, w), func(c *Config) { c.Authority = authority }).Fetch(t.Context(), credential.Key{}, sub)
		if err != nil || tok.Values["token"].Reveal() != "eyJ0-1" || tok.Lifetime != 3599*time.Second || sub.Asked()[0] != want[1] {
			t.Errorf("%q: %+v, %v, asked for %q", authority, tok, err, sub.Asked())
		}
	}
}

// SPIRE signs with ES256 unless it is told otherwise, and Entra's own answer to that says
// nothing of algorithms.
func TestMUST_C12_OnlyRS256IsSent(t *testing.T) {
	d := svidtest.New(t)
	s := issuertest.NewServer(t, newTwin(d))
	_, err := provider(t, s, nil).Fetch(t.Context(), credential.Key{}, d.Subject(id))
	e := wantError(t, err, credential.Refused)
	if !strings.Contains(e.Error(), `"ES256"`) || !strings.Contains(e.Error(), `jwt_key_type = "rsa-2048"`) || s.Asked() != 0 {
		t.Errorf("%v, %d calls", e, s.Asked())
	}
}

func TestEntraRefuses(t *testing.T) {
	d := svidtest.NewRSA(t)
	stranger := svidtest.NewRSA(t)
	for want, tc := range map[string]struct {
		change func(*Config)
		sub    *svidtest.Subject
	}{
		"AADSTS700213 (no federated credential has the SVID's subject": {nil, d.Subject("spiffe://acme.example/other")},
		"AADSTS700212 (no federated credential has the SVID's audienc": {func(c *Config) { c.AssertionAudience = "api://other" }, d.Subject(id)},
		"AADSTS700027 (the SVID's signature was not accepted":          {nil, stranger.Subject(id)},
		"AADSTS700016 (the tenant has no application":                  {func(c *Config) { c.ClientID = tenant }, d.Subject(id)},
		"AADSTS90002 (there is no such tenant":                         {func(c *Config) { c.Tenant = "other.example" }, d.Subject(id)},
		"AADSTS70011 (the scope must be":                               {func(c *Config) { c.Scope = "https://other.example/.default" }, d.Subject(id)},
	} {
		_, err := provider(t, issuertest.NewServer(t, newTwin(d)), tc.change).Fetch(t.Context(), credential.Key{}, tc.sub)
		if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), want) || strings.Contains(e.Error(), "hush") {
			t.Errorf("%v, want %s", e, want)
		}
	}
}

func TestMUST_C9_OnlyTheNumberIsTold(t *testing.T) {
	d := svidtest.NewRSA(t)
	w := newTwin(d)
	p := provider(t, issuertest.NewServer(t, w), nil)
	for code, want := range map[int64]credential.Kind{90033: credential.Unreachable, 50196: credential.Unreachable, 53003: credential.Refused, 1234567: credential.Refused} {
		w.code.Store(code)
		_, err := p.Fetch(t.Context(), credential.Key{}, d.Subject(id))
		if e := wantError(t, err, want); !strings.Contains(e.Error(), fmt.Sprintf("AADSTS%d", code)) {
			t.Error(e)
		}
	}
	for _, codes := range []string{`["hush"]`, `[1]`, `[-700213]`, `[99999999999]`, `[7e300]`, `"700213"`, `[]`, `{}`} {
		body := `{"error":"invalid_request","error_codes":` + codes + `}`
		p := provider(t, issuertest.NewServer(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(rw, body)
		})), nil)
		_, err := p.Fetch(t.Context(), credential.Key{}, d.Subject(id))
		if e := wantError(t, err, credential.Refused); strings.Contains(e.Error(), "AADSTS") || strings.Contains(e.Error(), "hush") {
			t.Errorf("%s: %v", codes, e)
		}
	}
}

// Every code that has a hint is one of Entra's.
func TestHints(t *testing.T) {
	for code := 10_000; code < 1_100_000; code++ {
		if hint := hintFor(code); hint != "" && (strings.HasSuffix(hint, ".") || hint != strings.TrimSpace(hint)) {
			t.Errorf("AADSTS%d: %q", code, hint)
		}
	}
}

func TestMUST_I10_TheSVIDIsForEntraAlone(t *testing.T) {
	d := svidtest.NewRSA(t)
	s := issuertest.NewServer(t, newTwin(d))
	sub := d.Subject(id)
	sub.Audience = []string{"api://AzureADTokenExchange", "egret"}
	_, err := provider(t, s, nil).Fetch(t.Context(), credential.Key{}, sub)
	wantError(t, err, credential.NotMinted)
	_, err = provider(t, s, nil).Fetch(t.Context(), credential.Key{}, nil)
	if wantError(t, err, credential.Unconfigured); s.Asked() != 0 {
		t.Error("Entra was asked")
	}
}

func TestFaultMatrix(t *testing.T) {
	d := svidtest.NewRSA(t)
	issuertest.Matrix{
		Twin:     func(*testing.T) http.Handler { return newTwin(d) },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider { return provider(t, s, nil) },
		Subject:  d.Subject(id), Lifetime: "expires_in", Secrets: []string{"eyJ"},
	}.Run(t)
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	good := Config{Tenant: tenant, ClientID: clientID, Scope: scope}
	for want, change := range map[string]func(*Config){
		`authority "http://x" must be`:               func(c *Config) { c.Authority = "http://x" },
		`authority "https://x/y" must be`:            func(c *Config) { c.Authority = "https://x/y" },
		`authority "https://u@x" must be`:            func(c *Config) { c.Authority = "https://u@x" },
		`authority "https://x?y" must be`:            func(c *Config) { c.Authority = "https://x?y" },
		`authority "germany" must be`:                func(c *Config) { c.Authority = "germany" },
		`tenant "" must be`:                          func(c *Config) { c.Tenant = "" },
		`tenant "a/../b" must be`:                    func(c *Config) { c.Tenant = "a/../b" },
		"clientID is required":                       func(c *Config) { c.ClientID = "" },
		`scope "User.Read" must end in /.default`:    func(c *Config) { c.Scope = "User.Read" },
		`authority "https://" must be public, usgov`: func(c *Config) { c.Authority = "https://" },
	} {
		c := good
		change(&c)
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
