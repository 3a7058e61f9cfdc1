// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package slack

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/issuer/rotation"
	"github.com/egret-proxy/egret/internal/secret"
)

// stateFile is what a person has set up.
func stateFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "slack")
	if err := os.WriteFile(path, []byte(first+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func config(path string, o issuer.Options) Config {
	return Config{
		ClientID: clientID, ClientSecret: keyOf(clientSecret), Store: rotation.NewFile(path), Lease: rotation.NewLock(path + ".lock"), Issuer: o,
	}
}

func provide(t testing.TB, c Config) *Provider {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func wantError(t testing.TB, err error, k credential.Kind) *credential.Error {
	t.Helper()
	e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
	if !ok || e.Kind != k {
		t.Fatalf("err = %v (%T), want %s", err, err, k)
	}
	return e
}

func TestRotation(t *testing.T) {
	s := newTwin(12 * time.Hour)
	web := issuertest.NewServer(t, s)
	path := stateFile(t)
	p := provide(t, config(path, web.Options()))
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || !s.accepts(tok.Values["token"].Reveal()) || tok.Lifetime < 12*time.Hour-time.Minute || len(s.bad) > 0 {
		t.Fatalf("%v, %s; %q", err, tok.Lifetime, s.bad)
	}
	st, err := rotation.NewFile(path).Load(t.Context())
	if err != nil || st.Refresh.Reveal() != "xoxe-1-1" || !st.Asked.IsZero() {
		t.Errorf("%+v, %v", st, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestFaultMatrix(t *testing.T) {
	issuertest.Matrix{
		Twin: func(*testing.T) http.Handler { return newTwin(12 * time.Hour) },
		Provider: func(t *testing.T, s *issuertest.Server) credential.Provider {
			o := s.Options()
			o.Timeout = time.Second // a caller that goes away does not end a question
			return provide(t, config(stateFile(t), o))
		},
		Want:    map[string]credential.Kind{"an empty object": credential.Refused, "something else": credential.Refused}, // ok is not true
		Once:    true,                                                                                                    // the twin has rotated, and the answer was spoilt
		Secrets: []string{"xoxe", clientSecret},
	}.Run(t)
}

// TestErrorsInsideOf200 maps {"ok":false}, and what it says of the refresh token.
func TestErrorsInsideOf200(t *testing.T) {
	for code, want := range map[string]struct {
		kind   credential.Kind
		asked  bool // the token may be spent
		refuse bool
	}{
		"invalid_refresh_token": {credential.Refused, false, true},
		"token_revoked":         {credential.Refused, false, true},
		"token_expired":         {credential.Refused, false, true},
		"bad_client_secret":     {credential.Refused, false, false},
		"invalid_auth":          {credential.Refused, false, false},
		"ratelimited":           {credential.Unreachable, false, false},
		"internal_error":        {credential.Unreachable, true, false},
		"hush":                  {credential.Refused, true, false},
		"":                      {credential.Refused, true, false},
	} {
		web := issuertest.NewServer(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After", "30")
			_, _ = w.Write([]byte(`{"ok":false,"error":"` + code + `"}`))
		}))
		path := stateFile(t)
		_, err := provide(t, config(path, web.Options())).Fetch(t.Context(), credential.Key{}, nil)
		e := wantError(t, err, want.kind)
		st, lerr := rotation.NewFile(path).Load(t.Context())
		if lerr != nil || st.Asked.IsZero() == want.asked || st.Spent != want.refuse || e.RetryAfter != 30*time.Second || strings.Contains(e.Error(), "hush") {
			t.Errorf("%q: %v; %+v, %v", code, e, st, lerr)
		}
	}
}

func TestAnswersWithoutAPair(t *testing.T) {
	for _, body := range []string{
		`{"ok":true}`, `{"ok":true,"access_token":"a","token_type":"bot"}`, `{"ok":true,"refresh_token":"r","token_type":"bot"}`,
		`{"ok":true,"access_token":"a","refresh_token":"r"}`, `{"ok":true,"access_token":"a","refresh_token":"r","token_type":"app"}`,
		`{"ok":"true","access_token":"a","refresh_token":"r","token_type":"bot"}`,
	} {
		a := &issuer.Answer{Status: 200, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
		if g, err := read(a); err == nil || !g.Access.IsZero() || errors.Is(err, rotation.ErrUntouched) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestSecretsThatCannotBeRead(t *testing.T) {
	web := issuertest.NewServer(t, newTwin(time.Hour))
	for _, c := range []func(*Config){
		func(c *Config) {
			c.ClientSecret = func() (secret.Secret, error) { return secret.Secret{}, errors.New("gone") }
		},
		func(c *Config) { c.ClientSecret = keyOf("") },
	} {
		path := stateFile(t)
		cfg := config(path, web.Options())
		c(&cfg)
		if _, err := provide(t, cfg).Fetch(t.Context(), credential.Key{}, nil); err == nil || web.Asked() != 0 {
			t.Errorf("%v, asked %d times", err, web.Asked())
		}
		if st, err := rotation.NewFile(path).Load(t.Context()); err != nil || !st.Asked.IsZero() {
			t.Errorf("%+v, %v", st, err)
		}
	}
}

func TestConfigIsStrict(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"baseURL must be https": func(c *Config) { c.BaseURL = "http://slack.com/api" },
		"baseURL must be":       func(c *Config) { c.BaseURL = "https://u:hush@slack.com/api" },
		"without user, query":   func(c *Config) { c.BaseURL = "https://slack.com/api?x" },
		"needs clientID":        func(c *Config) { c.ClientID = "" },
		"clientSecret":          func(c *Config) { c.ClientSecret = nil },
		"needs a store":         func(c *Config) { c.Store = nil },
	} {
		c := config("x", issuer.Options{})
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"ok":true,"access_token":"a","refresh_token":"r","token_type":"bot","expires_in":43200}`)
	f.Add(200, `{"ok":false,"error":"invalid_refresh_token"}`)
	f.Add(500, ``)
	f.Fuzz(func(t *testing.T, status int, body string) {
		g, err := read(&issuer.Answer{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)})
		if ok := err == nil; ok != (!g.Access.IsZero() && !g.Refresh.IsZero()) || ok && (status != 200 || g.Lifetime < 0) {
			t.Fatalf("%d %q: %v", status, body, err)
		}
	})
}
