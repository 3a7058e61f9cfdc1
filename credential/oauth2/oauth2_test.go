// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestEveryClientAuthWithEveryGrant(t *testing.T) {
	for _, grant := range []string{ClientCredentials, TokenExchange, JWTBearer} {
		for _, auth := range auths() {
			if auth == None && grant == ClientCredentials {
				continue
			}
			t.Run(grant+"/"+auth, func(t *testing.T) {
				s := newServer(t, auth, grant)
				s.want = url.Values{"scope": {"a b:c"}, "audience": {"https://api.example"}, "resource": {"https://r.example/x"}}
				p := s.provider(func(c *Config) {
					c.Scopes, c.Audience, c.Resource = []string{"a", "b:c"}, "https://api.example", "https://r.example/x"
					c.TokenURL += "?tenant=1"
				})
				sub := s.subject()
				tok, err := p.Fetch(t.Context(), credential.Key{Scopes: "ignored"}, sub)
				if err != nil || tok.Values["token"].Reveal() != "at-1" || tok.Lifetime > time.Hour || tok.Lifetime < 59*time.Minute {
					t.Fatalf("%+v, %v; %q", tok, err, s.bad)
				}
				var want []string
				if grant != ClientCredentials {
					want = append(want, subjectAud)
				}
				if auth == JWTSPIFFE {
					want = append(want, issuerName)
				}
				if fmt.Sprint(sub.Asked()) != fmt.Sprint(want) {
					t.Errorf("SVIDs asked for: %q, want %q", sub.Asked(), want)
				}
			})
		}
	}
}

func TestFaultMatrix(t *testing.T) {
	for _, auth := range []string{ClientSecretBasic, PrivateKeyJWT, JWTSPIFFE, TLSClientAuth} {
		t.Run(auth, func(t *testing.T) {
			s := twinOf(t, auth, TokenExchange)
			issuertest.Matrix{
				Twin:    func(*testing.T) http.Handler { return s },
				Subject: s.subject(),
				Provider: func(t *testing.T, web *issuertest.Server) credential.Provider {
					c := s.config()
					c.Issuer = web.Options()
					return provide(t, c)
				},
				Lifetime: lifetimeMember(auth),
				Secrets:  []string{"at-", clientSecret, url.QueryEscape(clientSecret)},
			}.Run(t)
		})
	}
}

// lifetimeMember is empty where the certificate's end counts besides.
func lifetimeMember(auth string) string {
	if auth == TLSClientAuth {
		return ""
	}
	return "expires_in"
}

func TestOAuthErrors(t *testing.T) {
	s := newServer(t, ClientSecretBasic, ClientCredentials)
	p := s.provider(nil)
	for code, want := range map[string]credential.Kind{
		"invalid_grant": credential.Refused, "unauthorized_client": credential.Refused, "invalid_scope": credential.Refused,
		"access_denied": credential.Refused, "invalid_target": credential.Refused, "hush": credential.Refused,
		"temporarily_unavailable": credential.Unreachable, "server_error": credential.Unreachable, "slow_down": credential.Unreachable,
		"": credential.NotMinted,
	} {
		s.say = func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 400, map[string]any{"error": code, "error_description": "hush"})
		}
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if e := wantError(t, err, want); strings.Contains(e.Error(), "hush") || code == "invalid_grant" && !strings.Contains(e.Error(), code) {
			t.Errorf("%q: %v", code, e)
		}
	}
	s.say = func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 201, map[string]any{"access_token": "t", "token_type": "Bearer"})
	}
	_, err := p.Fetch(t.Context(), credential.Key{}, nil)
	wantError(t, err, credential.NotMinted)
}

func TestTokenTypesThatNeedMore(t *testing.T) {
	s := newServer(t, ClientSecretPost, ClientCredentials)
	p := s.provider(nil)
	for _, kind := range []any{"DPoP", "mac", "N_A", "", nil, 7} {
		s.say = func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"access_token": "t", "token_type": kind})
		}
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.NotMinted)
	}
}

// TestIssuedTokenType: RFC 8693, 2.2.1.
func TestIssuedTokenType(t *testing.T) {
	const idToken = "urn:ietf:params:oauth:token-type:id_token"
	s := newServer(t, ClientSecretBasic, TokenExchange)
	for _, c := range []struct {
		want, issued, kind string
		good               bool
	}{
		{"", exchange.TypeAccess, "Bearer", true},
		{"", exchange.TypeJWT, "bearer", true},
		{"", idToken, "Bearer", false},
		{"", "", "Bearer", false},
		{exchange.TypeAccess, exchange.TypeAccess, "Bearer", true},
		{exchange.TypeAccess, exchange.TypeJWT, "Bearer", false},
		{exchange.TypeAccess, exchange.TypeAccess, "N_A", false},
		{idToken, idToken, "N_A", true},
		{idToken, exchange.TypeAccess, "Bearer", false},
	} {
		p := s.provider(func(cfg *Config) { cfg.RequestedTokenType = c.want })
		s.say = func(w http.ResponseWriter, r *http.Request) {
			if r.PostForm.Get("requested_token_type") != c.want {
				t.Errorf("asked for %q", r.PostForm.Get("requested_token_type"))
			}
			answer(w, 200, map[string]any{"access_token": "t", "token_type": c.kind, "issued_token_type": c.issued})
		}
		_, err := p.Fetch(t.Context(), credential.Key{}, s.subject())
		if !c.good {
			wantError(t, err, credential.NotMinted)
		} else if err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestCertificateBoundTokens: RFC 8705, 3.
func TestCertificateBoundTokens(t *testing.T) {
	for bind, want := range map[string]bool{"": true, "own": true, "unbound": false} {
		s := newServer(t, TLSClientAuth, ClientCredentials)
		s.bind = bind
		sub := s.subject()
		sub.X509Life = 10 * time.Minute
		tok, err := s.provider(nil).Fetch(t.Context(), credential.Key{}, sub)
		if err != nil || (tok.Certificate != nil) != want {
			t.Fatalf("%q: %v, certificate %v", bind, err, tok.Certificate != nil)
		}
		if !want {
			continue
		}
		cert, _ := sub.X509SVID(t.Context())
		if string(tok.Certificate.Certificate[0]) != string(cert.Certificate[0]) || tok.Lifetime > 10*time.Minute {
			t.Errorf("%q: another certificate, or a life of %s beyond it", bind, tok.Lifetime)
		}
	}
	s := newServer(t, SelfSignedTLS, ClientCredentials)
	s.bind = "other"
	tok, err := s.provider(nil).Fetch(t.Context(), credential.Key{}, s.subject())
	if wantError(t, err, credential.NotMinted); tok.Certificate != nil || tok.Values != nil {
		t.Error("a token that is bound to another certificate")
	}
}

func TestProofsThatCannotBeMade(t *testing.T) {
	secretOf := func(text string, err error) func() (secret.Secret, error) {
		return func() (secret.Secret, error) { return secret.New(text), err }
	}
	away := errors.New("it is gone")
	for name, c := range map[string]struct {
		auth   string
		change func(*Config)
		want   credential.Kind
	}{
		"secret gone":    {ClientSecretBasic, func(c *Config) { c.ClientSecret = secretOf("", away) }, credential.Unreachable},
		"secret empty":   {ClientSecretPost, func(c *Config) { c.ClientSecret = secretOf("", nil) }, credential.NotMinted},
		"key gone":       {PrivateKeyJWT, func(c *Config) { c.ClientKey.Key = secretOf("", away) }, credential.Unreachable},
		"key is none":    {PrivateKeyJWT, func(c *Config) { c.ClientKey.Key = secretOf("hush", nil) }, credential.NotMinted},
		"key of a curve": {PrivateKeyJWT, func(c *Config) { c.ClientKey.Key, c.ClientKey.Algorithm = secretOf(ecPEM(t), nil), "RS256" }, credential.NotMinted},
	} {
		s := newServer(t, c.auth, ClientCredentials)
		_, err := s.provider(c.change).Fetch(t.Context(), credential.Key{}, nil)
		if e := wantError(t, err, c.want); s.Asked() != 0 || strings.Contains(e.Error(), "hush") {
			t.Errorf("%s: the server was asked, or %v", name, e)
		}
	}
}

func TestNoIdentityNoRequest(t *testing.T) {
	for _, auth := range []string{JWTSPIFFE, TLSClientAuth} {
		s := newServer(t, auth, ClientCredentials)
		p := s.provider(nil)
		_, err := p.Fetch(t.Context(), credential.Key{}, nil)
		wantError(t, err, credential.Unconfigured)
		sub := s.subject()
		sub.Err = errors.New("agent is away")
		_, err = p.Fetch(t.Context(), credential.Key{}, sub)
		wantError(t, err, credential.Unreachable)
		over := s.subject()
		over.X509Life, over.Life = -time.Minute, -time.Minute
		_, err = p.Fetch(t.Context(), credential.Key{}, over)
		wantError(t, err, credential.NotMinted)
		if s.Asked() != 0 {
			t.Errorf("%s: the server was asked", auth)
		}
	}
}

func TestMUST_I10_AnSVIDForOthersTooIsNotPresented(t *testing.T) {
	for _, c := range [][2]string{{JWTSPIFFE, ClientCredentials}, {None, TokenExchange}, {None, JWTBearer}} {
		s := newServer(t, c[0], c[1])
		sub := s.subject()
		sub.Audience = []string{issuerName, subjectAud}
		_, err := s.provider(nil).Fetch(t.Context(), credential.Key{}, sub)
		if wantError(t, err, credential.NotMinted); s.Asked() != 0 {
			t.Errorf("%s: the server was asked", c)
		}
	}
}

func TestSecretRotationIsFollowed(t *testing.T) {
	s := newServer(t, ClientSecretBasic, ClientCredentials)
	now := "old"
	p := s.provider(func(c *Config) { c.ClientSecret = func() (secret.Secret, error) { return secret.New(now), nil } })
	_, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if e := wantError(t, err, credential.Refused); !strings.Contains(e.Error(), "invalid_client") {
		t.Errorf("%v", e)
	}
	now = clientSecret
	if _, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil {
		t.Error(err)
	}
}

// TestRevocation: RFC 7009, with every proof; a token is ended once and by its own text.
func TestRevocation(t *testing.T) {
	for _, auth := range auths() {
		s := newServer(t, auth, JWTBearer)
		p := s.provider(func(c *Config) { c.RevocationURL = issuerName + "/revoke" })
		tok, err := p.Fetch(t.Context(), credential.Key{}, s.subject())
		if err != nil || tok.Revoke == nil {
			t.Fatalf("%s: %v; %q", auth, err, s.bad)
		}
		if err := tok.Revoke(t.Context()); err != nil || !s.revoked["at-1"] || len(s.revoked) != 1 {
			t.Errorf("%s: %v, %v; %q", auth, err, s.revoked, s.bad)
		}
		s.Break(find(t, "503 with Retry-After"))
		if e := wantError(t, tok.Revoke(t.Context()), credential.Unreachable); e.RetryAfter != 7*time.Second || !strings.Contains(e.Error(), "revocation endpoint") {
			t.Errorf("%s: %v", auth, e)
		}
	}
	s := newServer(t, ClientSecretPost, ClientCredentials)
	if tok, err := s.provider(nil).Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Revoke != nil {
		t.Errorf("without a URL: %v", err)
	}
}

func find(t *testing.T, name string) *issuertest.Fault {
	t.Helper()
	for _, f := range issuertest.Faults() {
		if f.Name == name {
			return &f
		}
	}
	t.Fatal(name)
	return nil
}

func TestMUST_C9_ConfigAndProviderDoNotPrint(t *testing.T) {
	s := newServer(t, ClientSecretBasic, ClientCredentials)
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
	s := newServer(t, ClientSecretBasic, ClientCredentials)
	p := s.provider(nil)
	for _, want := range []string{"x", "ghs_" + strings.Repeat("A.b_", 4000), "a b\"\\/ü=="} {
		s.say = func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]string{"access_token": want, "token_type": "Bearer"})
		}
		if tok, err := p.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Values["token"].Reveal() != want {
			t.Errorf("%.20q: %v", want, err)
		}
	}
}

func TestMUST_T10_ConfigIsStrict(t *testing.T) {
	secretOf := func() (secret.Secret, error) { return secret.New("x"), nil }
	good := Config{TokenURL: "https://as.example/token", ClientID: "id", ClientSecret: secretOf}
	if _, err := New(good); err != nil {
		t.Fatal(err)
	}
	bare := func(c *Config, auth string) { c.ClientAuth, c.ClientSecret = auth, nil }
	for want, change := range map[string]func(*Config){
		"tokenURL is not a URL":                        func(c *Config) { c.TokenURL = "https://as.example/%zz" },
		`tokenURL "http://as.example" must be https`:   func(c *Config) { c.TokenURL = "http://as.example" },
		`tokenURL "https:///token" must be https with`: func(c *Config) { c.TokenURL = "https:///token" },
		"must hold no user":                            func(c *Config) { c.TokenURL = "https://u:p@as.example/" },
		"must have no fragment":                        func(c *Config) { c.TokenURL = "https://as.example/#" },
		`revocationURL "x" must be https`:              func(c *Config) { c.RevocationURL = "x" },
		"needs clientID and clientSecret":              func(c *Config) { c.ClientID = "" },
		`"client_secret_post" needs clientID`:          func(c *Config) { bare(c, ClientSecretPost) },
		"needs clientID and a private key":             func(c *Config) { bare(c, PrivateKeyJWT) },
		"a private key would be ignored":               func(c *Config) { c.ClientKey.Key = secretOf },
		`algorithm "HS256" must be one of`:             func(c *Config) { bare(c, PrivateKeyJWT); c.ClientKey = ClientKey{Key: secretOf, Algorithm: "HS256"} },
		"leaves the client credentials grant without":  func(c *Config) { bare(c, None) },
		"assertionAudience would be ignored":           func(c *Config) { c.AssertionAudience = "x" },
		"clientSecret would be ignored":                func(c *Config) { c.ClientAuth = JWTSPIFFE },
		`assertionAudience "a b" must be exactly one`:  func(c *Config) { bare(c, JWTSPIFFE); c.AssertionAudience = "a b" },
		`subjectAudience "a b" must be exactly one`:    func(c *Config) { c.Grant, c.SubjectAudience = TokenExchange, "a b" },
		"subjectAudience would be ignored":             func(c *Config) { c.SubjectAudience = "x" },
		"requestedTokenType would be ignored":          func(c *Config) { c.Grant, c.RequestedTokenType = JWTBearer, exchange.TypeJWT },
		`requestedTokenType "jwt" must be an absolute`: func(c *Config) { c.Grant, c.RequestedTokenType = TokenExchange, "jwt" },
		`clientAuth "magic" must be one of`:            func(c *Config) { c.ClientAuth = "magic" },
		`grant "password" must be one of`:              func(c *Config) { c.Grant = "password" },
		"needs a place where the refresh token":        func(c *Config) { c.Grant = RefreshToken },
		"a stored refresh token would be ignored":      func(c *Config) { c.State = rotationOf(t) },
		"its token is one for all workloads":           func(c *Config) { bare(c, JWTSPIFFE); c.Grant, c.State = RefreshToken, rotationOf(t) },
		"it would end the token of all replicas":       func(c *Config) { c.Grant, c.State, c.RevocationURL = RefreshToken, rotationOf(t), c.TokenURL },
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

// The whole half: workload identity in, header out, through the real cache over TLS.
func TestThroughTheCache(t *testing.T) {
	s := newServer(t, JWTSPIFFE, ClientCredentials)
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
		v, err := c.Credential(t.Context(), k, s.subject())
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
	const js = "application/json"
	f.Add(200, js, `{"access_token":"t","token_type":"Bearer","expires_in":3600}`, "5", "1")
	f.Add(400, js, `{"error":"invalid_grant"}`, "", "")
	f.Add(429, "text/html", "<html>", "Mon, 02 Jan 2006 15:05:05 GMT", "x")
	f.Add(200, js+"; charset=utf-8", `{"access_token":"t","token_type":"Bearer","expires_in":"1e400"}`, "-1", "99999999999")
	p := &Provider{}
	f.Fuzz(func(t *testing.T, status int, ct, body, after, age string) {
		tok, err := p.read(&issuer.Answer{Status: status, Body: []byte(body), Header: http.Header{
			"Content-Type": {ct}, "Retry-After": {after}, "Age": {age},
		}})
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

func FuzzConfirmation(f *testing.F) {
	f.Add("e30.eyJjbmYiOnsieDV0I1MyNTYiOiJBQUFBIn19.c2ln")
	f.Add("opaque")
	f.Fuzz(func(t *testing.T, token string) {
		if thumb, readable := confirmation(token); thumb != "" && (!readable || strings.Count(token, ".") != 2) {
			t.Fatalf("%q is bound to %q", token, thumb)
		}
	})
}
