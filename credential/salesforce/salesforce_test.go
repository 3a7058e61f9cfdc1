// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package salesforce

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID = "3MVG9.consumer"
	username = "egret@acme.example"
	instance = "acme.my.salesforce.com"
)

// twin is /services/oauth2/token of login.salesforce.com, for one app and one user.
type twin struct {
	key      *rsa.PrivateKey
	audience string
	instance string

	mu   sync.Mutex
	seen map[string]bool
	last error
}

func newTwin(t *testing.T) *twin {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &twin{key: key, audience: LoginURL, instance: "https://" + instance, seen: map[string]bool{}}
}

func (s *twin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	code, err := s.check(r)
	if s.last = err; err != nil {
		w.WriteHeader(http.StatusBadRequest)
		_ = json.NewEncoder(w).Encode(map[string]string{"error": code, "error_description": "hush " + err.Error()})
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{
		"access_token": "00Dx!hush.token", "scope": "api", "instance_url": s.instance, "id": "https://login.salesforce.com/id/00Dx/005x", "token_type": "Bearer",
	})
}

func (s *twin) check(r *http.Request) (string, error) {
	if err := r.ParseForm(); err != nil || r.URL.Path != "/services/oauth2/token" || r.Method != http.MethodPost || len(r.PostForm) != 2 {
		return "invalid_request", errors.New("form")
	}
	if r.PostForm.Get("grant_type") != exchange.GrantJWTBearer {
		return "unsupported_grant_type", errors.New("grant")
	}
	tok, err := jwt.ParseSigned(r.PostForm.Get("assertion"), []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return "invalid_grant", err
	}
	var c jwt.Claims
	if err := tok.Claims(s.key.Public(), &c); err != nil {
		return "invalid_grant", err
	}
	switch left := time.Until(c.Expiry.Time()); {
	case c.Issuer != clientID:
		return "invalid_client_id", errors.New("iss")
	case c.Subject != username:
		return "invalid_grant", errors.New("user hasn't approved this consumer")
	case len(c.Audience) != 1 || c.Audience[0] != s.audience:
		return "invalid_grant", errors.New("audience")
	case left <= 0 || left > 3*time.Minute:
		return "invalid_grant", errors.New("exp")
	case c.ID != "" && s.seen[c.ID]:
		return "invalid_grant", errors.New("replayed")
	}
	s.seen[c.ID] = true
	return "", nil
}

func (s *twin) config(o issuer.Options) Config {
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		panic(err)
	}
	return Config{
		ClientID: clientID, Username: username, Hosts: []string{"other.my.salesforce.com", instance}, Issuer: o,
		Key: keyOf(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))),
	}
}

func keyOf(text string) func() (secret.Secret, error) {
	return func() (secret.Secret, error) { return secret.New(text), nil }
}

func provide(t *testing.T, c Config) *Provider {
	t.Helper()
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestToken(t *testing.T) {
	s := newTwin(t)
	p := provide(t, s.config(issuertest.NewServer(t, s).Options()))
	for range 2 { // each with an assertion of its own
		tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if err != nil || tok.Values["token"].Reveal() != "00Dx!hush.token" || tok.Lifetime != 0 {
			t.Fatalf("%v (%v), %s", err, s.last, tok.Lifetime)
		}
	}
}

func TestFaultMatrix(t *testing.T) {
	s := newTwin(t)
	issuertest.Matrix{
		Twin: func(*testing.T) http.Handler { return s },
		Provider: func(t *testing.T, web *issuertest.Server) credential.Provider {
			return provide(t, s.config(web.Options()))
		},
		Lifetime: "expires_in",
		Secrets:  []string{"00Dx", "PRIVATE KEY", clientID},
	}.Run(t)
}

// MUST T10: the answer does not choose where a token goes.
func TestMUST_T10_TokensForOtherHostsAreRefused(t *testing.T) {
	s := newTwin(t)
	p := provide(t, s.config(issuertest.NewServer(t, s).Options()))
	for instanceURL, good := range map[string]bool{
		"https://" + instance: true, "https://" + instance + "/": true, "https://ACME.my.salesforce.com": true, "https://other.my.salesforce.com": true,
		"": false, "https://evil.example": false, "https://" + instance + ".evil.example": false, "https://evil.example/" + instance: false,
		"https://" + instance + "@evil.example": false, "https://u@" + instance: false, "http://" + instance: false, "https://" + instance + ":8443": false,
		"https://" + instance + "?x": false, "https://" + instance + "#x": false, "//" + instance: false, instance: false, "https://%zz": false,
	} {
		s.instance = instanceURL
		tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if good {
			if err != nil {
				t.Errorf("%s: %v", instanceURL, err)
			}
			continue
		}
		e, ok := err.(*credential.Error) //nolint:errorlint // the outermost must be one
		if !ok || e.Kind != credential.NotMinted || len(tok.Values) > 0 || strings.Contains(e.Error(), "evil") {
			t.Errorf("%s: %v", instanceURL, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	s := newTwin(t)
	o := issuertest.NewServer(t, s).Options()
	for name, change := range map[string]func(*Config){
		"user":     func(c *Config) { c.Username = "other" },
		"audience": func(c *Config) { c.Audience = "https://test.salesforce.com" },
		"key":      func(c *Config) { c.Key = newTwin(t).config(o).Key },
		"app":      func(c *Config) { c.ClientID = "other" },
	} {
		c := s.config(o)
		change(&c)
		_, err := provide(t, c).Fetch(t.Context(), credential.Key{}, nil)
		if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != credential.Refused || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for want, key := range map[credential.Kind]func() (secret.Secret, error){
		credential.NotMinted:   keyOf("hush"),
		credential.Unreachable: func() (secret.Secret, error) { return secret.Secret{}, errors.New("gone") },
	} {
		c := s.config(o)
		c.Key = key
		_, err := provide(t, c).Fetch(t.Context(), credential.Key{}, nil)
		if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != want || strings.Contains(err.Error(), "hush") {
			t.Errorf("%v", err)
		}
	}
}

func TestConfigIsStrict(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"loginURL must be https":   func(c *Config) { c.LoginURL = "http://login.salesforce.com" },
		"loginURL must be":         func(c *Config) { c.LoginURL = "https://login.salesforce.com/x" },
		`audience "" must be one`:  func(c *Config) { c.LoginURL = "https://acme.my.salesforce.com" },
		`audience "x" must be one`: func(c *Config) { c.Audience = "x" },
		"needs clientID":           func(c *Config) { c.ClientID = "" },
		"username":                 func(c *Config) { c.Username = "" },
		"private key":              func(c *Config) { c.Key = nil },
		"needs the hosts":          func(c *Config) { c.Hosts = nil },
	} {
		c := Config{ClientID: "c", Username: "u", Key: keyOf("k"), Hosts: []string{"h"}}
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if p, err := New(Config{LoginURL: "https://test.salesforce.com/", ClientID: "c", Username: "u", Key: keyOf("k"), Hosts: []string{"h"}}); err != nil || p.cfg.Audience != "https://test.salesforce.com" {
		t.Errorf("%v", err)
	}
}
