// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestEveryClientAuth(t *testing.T) {
	for _, auth := range []string{ClientSecretBasic, ClientSecretPost, JWTSPIFFE} {
		t.Run(auth, func(t *testing.T) {
			s := newServer(t, auth)
			s.want = url.Values{"scope": {"a b:c"}, "audience": {"https://api.example"}, "resource": {"https://r.example/x"}}
			p := s.provider(func(c *Config) {
				c.Scopes, c.Audience, c.Resource = []string{"a", "b:c"}, "https://api.example", "https://r.example/x"
				c.TokenURL += "?tenant=1"
			})
			sub := &subject{key: s.key}
			tok, err := p.Fetch(t.Context(), credential.Key{Scopes: "ignored"}, sub)
			if err != nil || tok.Values["token"].Reveal() != "at-1" || tok.Lifetime != time.Hour || s.bad.Load() != 0 {
				t.Fatalf("%+v, %v", tok, err)
			}
			if want := auth == JWTSPIFFE; len(sub.asked) > 0 != want || want && sub.asked[0] != issuerName {
				t.Errorf("SVIDs asked for: %q", sub.asked)
			}
		})
	}
}

func TestWrongSecretIsRefusedAndRotationIsFollowed(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	now := "old"
	p := s.provider(func(c *Config) { c.ClientSecret = func() (secret.Secret, error) { return secret.New(now), nil } })
	_, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), "invalid_client") || strings.Contains(e.Error(), "id or secret") {
		t.Errorf("%v", e)
	}
	now = clientSecret
	if _, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil {
		t.Error(err)
	}
}

func TestClientSecretThatCannotBeRead(t *testing.T) {
	s := newServer(t, ClientSecretPost)
	for want, read := range map[credential.Kind]func() (secret.Secret, error){
		credential.Unreachable: func() (secret.Secret, error) { return secret.Secret{}, errors.New("file is gone") },
		credential.NotMinted:   func() (secret.Secret, error) { return secret.Secret{}, nil },
	} {
		p := s.provider(func(c *Config) { c.ClientSecret = read })
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, want)
	}
	if s.bad.Load()+s.issued.Load() != 0 {
		t.Error("the server was asked")
	}
}

func TestJWTSPIFFENeedsACallerAndASoleAudience(t *testing.T) {
	s := newServer(t, JWTSPIFFE)
	p := s.provider(nil)
	_, err := p.Fetch(t.Context(), credential.Key{}, nil)
	wantError(t, err, credential.Unconfigured)
	_, err = p.Fetch(t.Context(), credential.Key{}, &subject{err: errors.New("agent is away")})
	wantError(t, err, credential.Unreachable)
	for _, auds := range [][]string{{issuerName, "https://other.example"}, {"https://other.example"}, {}} {
		_, err = p.Fetch(t.Context(), credential.Key{}, &subject{key: s.key, audience: auds})
		wantError(t, err, credential.NotMinted)
	}
	if s.issued.Load() != 0 {
		t.Error("the server was asked")
	}
}

// reply is a fault that answers so.
func reply(status int, contentType, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

const js = "application/json"

func TestFaultMatrix(t *testing.T) {
	token := `{"access_token":"hush","token_type":"Bearer"}`
	for name, tc := range map[string]struct {
		fault http.HandlerFunc
		kind  credential.Kind
		after time.Duration
	}{
		"400 invalid_grant":         {reply(400, js, `{"error":"invalid_grant","error_description":"hush"}`), credential.Refused, 0},
		"400 unauthorized_client":   {reply(400, js, `{"error":"unauthorized_client"}`), credential.Refused, 0},
		"400 invalid_scope":         {reply(400, js, `{"error":"invalid_scope"}`), credential.Refused, 0},
		"400 unknown code":          {reply(400, js, `{"error":"hush"}`), credential.Refused, 0},
		"400 temporary":             {reply(400, js, `{"error":"temporarily_unavailable"}`, "Retry-After", "7"), credential.Unreachable, 7 * time.Second},
		"400 not JSON":              {reply(400, "text/html", `hush`), credential.NotMinted, 0},
		"401 not JSON":              {reply(401, "text/html", `hush`), credential.Refused, 0},
		"403 access_denied":         {reply(403, js, `{"error":"access_denied"}`), credential.Refused, 0},
		"404":                       {reply(404, "text/html", `hush`), credential.NotMinted, 0},
		"429 seconds":               {reply(429, js, `{}`, "Retry-After", "120"), credential.Unreachable, 2 * time.Minute},
		"429 date, clock differs":   {reply(429, js, `{}`, "Date", "Mon, 02 Jan 2006 15:04:05 GMT", "Retry-After", "Mon, 02 Jan 2006 15:05:05 GMT"), credential.Unreachable, time.Minute},
		"503 date that is over":     {reply(503, js, `{}`, "Retry-After", "Mon, 02 Jan 2006 15:05:05 GMT"), credential.Unreachable, 0},
		"500 odd Retry-After":       {reply(500, js, `hush`, "Retry-After", "-5"), credential.Unreachable, 0},
		"201":                       {reply(201, js, token), credential.NotMinted, 0},
		"204":                       {reply(204, "", ""), credential.NotMinted, 0},
		"malformed":                 {reply(200, js, `{"access_token":"hush"`), credential.NotMinted, 0},
		"two values":                {reply(200, js, token+token), credential.NotMinted, 0},
		"array":                     {reply(200, js, `["hush"]`), credential.NotMinted, 0},
		"null":                      {reply(200, js, `null`), credential.NotMinted, 0},
		"empty":                     {reply(200, js, ``), credential.NotMinted, 0},
		"not UTF-8":                 {reply(200, js, "{\"access_token\":\"hush\xff\",\"token_type\":\"Bearer\"}"), credential.NotMinted, 0},
		"huge":                      {reply(200, js, `{"x":"`+strings.Repeat("x", maxBody)+`","access_token":"hush","token_type":"Bearer"}`), credential.NotMinted, 0},
		"wrong content type":        {reply(200, "text/plain", token), credential.NotMinted, 0},
		"form answer":               {reply(200, "application/x-www-form-urlencoded", "access_token=hush&token_type=bearer"), credential.NotMinted, 0},
		"bad content type":          {reply(200, ";;", token), credential.NotMinted, 0},
		"no token":                  {reply(200, js, `{"token_type":"Bearer"}`), credential.NotMinted, 0},
		"empty token":               {reply(200, js, `{"access_token":"","token_type":"Bearer"}`), credential.NotMinted, 0},
		"token is a number":         {reply(200, js, `{"access_token":7,"token_type":"Bearer"}`), credential.NotMinted, 0},
		"other spelling of members": {reply(200, js, `{"Access_Token":"hush","TOKEN_TYPE":"Bearer"}`), credential.NotMinted, 0},
		"DPoP":                      {reply(200, js, `{"access_token":"hush","token_type":"DPoP"}`), credential.NotMinted, 0},
		"no token_type":             {reply(200, js, `{"access_token":"hush"}`), credential.NotMinted, 0},
		"reset":                     {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, credential.Unreachable, 0},
		"breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", js)
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"access_`)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}, credential.Unreachable, 0},
		"time-out": {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, credential.Unreachable, 0},
		"header without end": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 200 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("x", 1000))
			}
			reply(200, js, token)(w, nil)
		}, credential.Unreachable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, ClientSecretBasic)
			s.fault = tc.fault
			p := s.provider(func(c *Config) {
				if name == "time-out" {
					c.Timeout = 300 * time.Millisecond
				}
			})
			tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
			if err == nil {
				t.Fatalf("got %v", tok)
			}
			e := wantError(t, err, tc.kind)
			if e.RetryAfter != tc.after {
				t.Errorf("Retry-After %s, want %s", e.RetryAfter, tc.after)
			}
			for _, leak := range []string{"hush", clientSecret, url.QueryEscape(clientSecret)} {
				if strings.Contains(e.Error(), leak) {
					t.Errorf("MUST C9: the error quotes the answer or the secret: %v", e)
				}
			}
		})
	}
}

func TestMUST_C5_ExpiresInVariants(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	p := s.provider(nil)
	for raw, want := range map[string]time.Duration{
		``: 0, `null`: 0, `0`: 0, `-1`: 0, `"-1"`: 0, `""`: 0, `"soon"`: 0, `true`: 0, `{}`: 0, `[3600]`: 0, `"NaN"`: 0, `"-Inf"`: 0,
		`3600`: time.Hour, `"3600"`: time.Hour, `3600.5`: time.Hour + 500*time.Millisecond, `3.6e3`: time.Hour, `" 60 "`: time.Minute,
		`31536000`: 365 * 24 * time.Hour,
	} {
		body := `{"access_token":"t","token_type":"bearer"}`
		if raw != "" {
			body = `{"access_token":"t","token_type":"bearer","expires_in":` + raw + `}`
		}
		s.fault = reply(200, js, body)
		tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if err != nil || tok.Lifetime != want {
			t.Errorf("expires_in %s: %s, %v; want %s", raw, tok.Lifetime, err, want)
		}
	}
	for _, raw := range []string{`1e300`, `"Inf"`, `99999999999999999999`} {
		if d := lifetime(json.RawMessage(raw)); d < 1000*time.Hour {
			t.Errorf("expires_in %s: %s must stay absurd", raw, d)
		}
	}
}

func TestMUST_C5_AgeOfACachedAnswerCounts(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	p := s.provider(nil)
	for age, want := range map[string]time.Duration{"": time.Hour, "600": 50 * time.Minute, "9999": 1, "-1": time.Hour, "x": time.Hour} {
		s.fault = reply(200, js, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`, "Age", age)
		if tok, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Lifetime != want {
			t.Errorf("age %q: %s, %v", age, tok.Lifetime, err)
		}
	}
}

func TestMUST_C5_ClockThatDiffersIsWarnedAbout(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	var log bytes.Buffer
	p := s.provider(func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	if _, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || log.Len() > 0 {
		t.Errorf("%v, %s", err, &log)
	}
	s.fault = reply(200, js, `{"access_token":"t","token_type":"Bearer","expires_in":60}`, "Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Lifetime != time.Minute || !strings.Contains(log.String(), "clock differs") {
		t.Errorf("%s, %v, %s", tok.Lifetime, err, &log)
	}
}

func TestMUST_C9_ConfigAndProviderDoNotPrint(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	p := s.provider(nil)
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	j, _ := json.Marshal(tok)
	out := fmt.Sprintf("%+v %#v %+v %+v %#v %s", p, p, p.cfg, tok, tok, j)
	if strings.Contains(out, "hush") || strings.Contains(out, "at-1") {
		t.Error(out)
	}
	_, err = New(Config{TokenURL: "https://u:hush@as.example/%zz"})
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
}

func TestMUST_C10_TokenIsOpaque(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	p := s.provider(nil)
	for _, want := range []string{"x", "ghs_" + strings.Repeat("A.b_", 4000), "a b\"\\/ü=="} {
		body, _ := json.Marshal(map[string]string{"access_token": want, "token_type": "Bearer"})
		s.fault = reply(200, js, string(body))
		if tok, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Values["token"].Reveal() != want {
			t.Errorf("%.20q: %v", want, err)
		}
	}
}

func TestMUST_T9_RedirectsAreNotFollowed(t *testing.T) {
	var reached atomic.Int32
	other := newServer(t, ClientSecretBasic)
	other.fault = func(http.ResponseWriter, *http.Request) { reached.Add(1) }
	other.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) })
	for _, code := range []int{301, 302, 303, 307, 308} {
		s := newServer(t, ClientSecretBasic)
		s.fault = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, code) }
		p := s.provider(func(c *Config) { c.Roots.AddCert(other.Certificate()) })
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.NotMinted)
	}
	if reached.Load() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestMUST_T10_TheEndpointIsVerifiedAndDialledByTheGivenDialer(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	s := newServer(t, ClientSecretBasic)
	for name, change := range map[string]func(*Config){
		"unknown root": func(c *Config) { c.Roots = nil },
		"wrong name":   func(c *Config) { c.TokenURL = "https://wrong.example.org/token"; c.Dial = to(s) },
		"refused address": func(c *Config) {
			c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("private address") }
		},
	} {
		_, err := s.provider(change).Fetch(t.Context(), credential.Key{}, nil)
		if e := wantError(t, err, credential.Unreachable); s.issued.Load() != 0 {
			t.Errorf("%s: %v", name, e)
		}
	}
	p := s.provider(func(c *Config) { c.TokenURL = "https://example.com/token"; c.Dial = to(s) }) // a name of httptest's certificate
	if _, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil {
		t.Error(err)
	}
}

func to(s *server) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	secretOf := func() (secret.Secret, error) { return secret.New("x"), nil }
	good := Config{TokenURL: "https://as.example/token", ClientID: "id", ClientSecret: secretOf}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"tokenURL is not a URL":                        func(c *Config) { c.TokenURL = "https://as.example/%zz" },
		`tokenURL "http://as.example" must be https`:   func(c *Config) { c.TokenURL = "http://as.example" },
		`tokenURL "https:///token" must be https with`: func(c *Config) { c.TokenURL = "https:///token" },
		"must hold no user":                            func(c *Config) { c.TokenURL = "https://u:p@as.example/" },
		"must have no fragment":                        func(c *Config) { c.TokenURL = "https://as.example/#" },
		"needs clientID and clientSecret":              func(c *Config) { c.ClientID = "" },
		`"client_secret_post" needs clientID`:          func(c *Config) { c.ClientAuth, c.ClientSecret = ClientSecretPost, nil },
		"assertionAudience would be ignored":           func(c *Config) { c.AssertionAudience = "x" },
		"clientSecret would be ignored":                func(c *Config) { c.ClientAuth = JWTSPIFFE },
		"must be exactly one audience":                 func(c *Config) { c.ClientAuth, c.ClientSecret, c.AssertionAudience = JWTSPIFFE, nil, "a b" },
		`clientAuth "none" must be one of`:             func(c *Config) { c.ClientAuth = "none" },
		`scope "a b" must be`:                          func(c *Config) { c.Scopes = []string{"a b"} },
		`resource "x" must be an absolute URI`:         func(c *Config) { c.Resource = "x" },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestCorporateProxyIsUsedOnlyWhenGiven(t *testing.T) {
	s := newServer(t, ClientSecretBasic)
	asked := false
	p := s.provider(func(c *Config) {
		c.Proxy = func(*http.Request) (*url.URL, error) { asked = true; return nil, errors.New("proxy is away") }
	})
	_, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if wantError(t, err, credential.Unreachable); !asked {
		t.Error("the proxy was not asked")
	}
}

// The whole half: workload identity in, header out, through the real cache over TLS.
func TestThroughTheCache(t *testing.T) {
	s := newServer(t, JWTSPIFFE)
	in, err := credential.NewInjection(credential.InjectionConfig{Header: "Authorization", Value: "Bearer {token}"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Install([]credential.Spec{{Name: "api", Generation: "1", Provider: s.provider(nil), Inject: []credential.Injection{in}}})
	k := credential.Key{ID: spiffeid.RequireFromString(spiffeID), Provider: "api", Generation: "1"}
	used := 0
	for _, want := range []string{"Bearer at-1", "Bearer at-1", "Bearer at-2"} {
		v, err := c.Credential(t.Context(), k, &subject{key: s.key})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := http.NewRequest(http.MethodGet, "https://api.example/", nil)
		if err := v.Apply(r); err != nil || r.Header.Get("Authorization") != want {
			t.Errorf("%v, %v; want %s", r.Header, err, want)
		}
		if used++; used == 2 { // the SaaS refuses it
			c.Invalidate(k, v.Fingerprint())
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, js, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`, "5", "1")
	f.Add(400, js, `{"error":"invalid_grant"}`, "", "")
	f.Add(429, "text/html", "<html>", "Mon, 02 Jan 2006 15:05:05 GMT", "x")
	f.Add(200, js+"; charset=utf-8", `{"access_token":"t","token_type":"Bearer","expires_in":"1e400"}`, "-1", "99999999999")
	f.Fuzz(func(t *testing.T, status int, ct, body, after, age string) {
		resp := &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Header: http.Header{
			"Content-Type": {ct}, "Retry-After": {after}, "Age": {age},
		}}
		tok, err := read(resp)
		if err == nil {
			if status != 200 || tok.Values["token"].IsZero() || tok.Lifetime < 0 || !strings.Contains(strings.ToLower(body), "bearer") {
				t.Fatalf("%d %q gives %v", status, body, tok)
			}
			return
		}
		e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
		if !ok || e.RetryAfter < 0 || !tok.Values["token"].IsZero() {
			t.Fatalf("%v (%T), %v", err, err, tok)
		}
	})
}
