// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/secret"
)

const testIssuer = "https://auth.acme.example"

// authority signs JWT-SVIDs for acme.example.
type authority struct {
	key *ecdsa.PrivateKey
	kid string
}

func newAuthority(t *testing.T, kid string) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, kid}
}

func (a authority) bundle() *jwtbundle.Bundle {
	b := jwtbundle.New(spiffeid.RequireTrustDomainFromString("acme.example"))
	_ = b.AddJWTAuthority(a.kid, a.key.Public())
	return b
}

// svid signs a JWT-SVID that lives for ttl.
func (a authority) svid(t *testing.T, subject string, ttl time.Duration, audience ...string) string {
	t.Helper()
	opts := (&jose.SignerOptions{}).WithType("JWT").WithHeader(jose.HeaderKey("kid"), a.kid)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: a.key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Subject: subject, Audience: audience,
		IssuedAt: jwt.NewNumericDate(time.Now().Add(-time.Minute)), Expiry: jwt.NewNumericDate(time.Now().Add(ttl)),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

const dashboardID = "spiffe://acme.example/ns/qa/sa/dashboard"

type oauthFixture struct {
	*OAuth
	tokens *Issuer
	signer authority
}

func newOAuthFixture(t *testing.T) oauthFixture {
	t.Helper()
	tokens, signer := NewIssuer(nil), newAuthority(t, "k1")
	return oauthFixture{NewOAuth(OAuthConfig{
		Issuer: testIssuer, Tokens: tokens, Bundles: signer.bundle(),
		Clients: []Client{
			{ID: "job:1", Secret: secret.New("p%ss w:rd"), Scopes: []string{"read", "write"}},
			{ID: "dashboard", SpiffeID: spiffeid.RequireFromString(dashboardID), Scopes: []string{"chat:write"}},
		},
	}), tokens, signer}
}

// basic builds client_secret_basic as RFC 6749 section 2.3.1 has it.
func basic(id, pw string) string {
	return "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(pw)))
}

func form(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v.Encode()
}

var grantForm = form("grant_type", "client_credentials")

func TestOAuthIssues(t *testing.T) {
	f := newOAuthFixture(t)
	for _, tc := range []struct {
		name, body string
		header     []string
		login      Login
	}{
		{"basic", grantForm, []string{basic("job:1", "p%ss w:rd")}, Login{ClientID: "job:1", Method: MethodBasic, Scopes: []string{"read", "write"}}},
		{"post", form("grant_type", "client_credentials", "client_id", "job:1", "client_secret", "p%ss w:rd", "scope", "read"), nil,
			Login{ClientID: "job:1", Method: MethodPost, Scopes: []string{"read"}}},
		{"jwt-spiffe", form("grant_type", "client_credentials", "client_id", "dashboard", "client_assertion_type", AssertionTypeSpiffe,
			"client_assertion", f.signer.svid(t, dashboardID, time.Minute, testIssuer)), nil,
			Login{ClientID: "dashboard", Method: MethodSpiffe, Subject: spiffeid.RequireFromString(dashboardID), Scopes: []string{"chat:write"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := do(t, f, "POST "+TokenPath, tc.body, append(tc.header, formType)...)
			got := decode(t, resp)
			if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Pragma") != "no-cache" {
				t.Fatalf("got %d %v %v", resp.StatusCode, resp.Header, got["error"])
			}
			token, _ := got["access_token"].(string)
			if got["token_type"] != "Bearer" || got["expires_in"] != 600.0 || got["scope"] != strings.Join(tc.login.Scopes, " ") {
				t.Errorf("type %v, expires_in %v, scope %v", got["token_type"], got["expires_in"], got["scope"])
			}
			scopes, state := f.tokens.Valid(token)
			if d := cmp.Diff(tc.login.Scopes, scopes); d != "" || state != TokenLive {
				t.Errorf("state %v: %s", state, d)
			}
			tc.login.Fingerprint = secret.New(token).Fingerprint()
			logins := f.Logins()
			if d := cmp.Diff(tc.login, logins[len(logins)-1], cmp.Comparer(func(a, b spiffeid.ID) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestOAuthRefuses(t *testing.T) {
	f := newOAuthFixture(t)
	good := basic("job:1", "p%ss w:rd")
	other := newAuthority(t, "k1")
	assert := func(jwt string) string {
		return form("grant_type", "client_credentials", "client_assertion_type", AssertionTypeSpiffe, "client_assertion", jwt)
	}
	for _, tc := range []struct {
		name, body string
		header     []string
		status     int
		code       string
	}{
		{"no client", grantForm, []string{formType}, 401, "invalid_client"},
		{"wrong secret", grantForm, []string{formType, basic("job:1", "x")}, 401, "invalid_client"},
		{"unknown client", grantForm, []string{formType, basic("job:2", "p%ss w:rd")}, 401, "invalid_client"},
		{"secret of a client without one", grantForm, []string{formType, basic("dashboard", "")}, 401, "invalid_client"},
		{"not encoded", grantForm, []string{formType, "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("job:1:p%ss w:rd"))}, 401, "invalid_client"},
		{"bearer", grantForm, []string{formType, "Authorization: Bearer x"}, 401, "invalid_client"},
		{"two ways", grantForm + "&client_secret=x", []string{formType, good}, 400, "invalid_request"},
		{"other client_id", grantForm + "&client_id=x", []string{formType, good}, 400, "invalid_request"},
		{"no grant", "", []string{formType, good}, 400, "invalid_request"},
		{"other grant", form("grant_type", "password"), []string{formType, good}, 400, "unsupported_grant_type"},
		{"scope", grantForm + "&scope=read+admin", []string{formType, good}, 400, "invalid_scope"},
		{"twice", grantForm + "&" + grantForm, []string{formType, good}, 400, "invalid_request"},
		{"JSON", `{"grant_type":"client_credentials"}`, []string{"Content-Type: application/json", good}, 400, "invalid_request"},
		{"broken form", "grant_type=%zz", []string{formType, good}, 400, "invalid_request"},
		{"too long", "grant_type=" + strings.Repeat("x", maxTokenRequest), []string{formType, good}, 400, "invalid_request"},
		{"assertion type", form("grant_type", "client_credentials", "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
			"client_assertion", f.signer.svid(t, dashboardID, time.Minute, testIssuer)), []string{formType}, 401, "invalid_client"},
		{"no JWT", assert("x.y.z"), []string{formType}, 401, "invalid_client"},
		{"other key", assert(other.svid(t, dashboardID, time.Minute, testIssuer)), []string{formType}, 401, "invalid_client"},
		{"expired", assert(f.signer.svid(t, dashboardID, -2*time.Minute, testIssuer)), []string{formType}, 401, "invalid_client"},
		{"other audience", assert(f.signer.svid(t, dashboardID, time.Minute, testIssuer+TokenPath)), []string{formType}, 401, "invalid_client"},
		{"two audiences", assert(f.signer.svid(t, dashboardID, time.Minute, testIssuer, "https://other.example")), []string{formType}, 401, "invalid_client"},
		{"other workload", assert(f.signer.svid(t, "spiffe://acme.example/ns/qa/sa/build-agent", time.Minute, testIssuer)), []string{formType}, 401, "invalid_client"},
		{"foreign trust domain", assert(f.signer.svid(t, "spiffe://evil.example/ns/qa/sa/dashboard", time.Minute, testIssuer)), []string{formType}, 401, "invalid_client"},
		{"other client of the SVID", assert(f.signer.svid(t, dashboardID, time.Minute, testIssuer)) + "&client_id=job%3A1", []string{formType}, 401, "invalid_client"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := do(t, f, "POST "+TokenPath, tc.body, tc.header...)
			got := decode(t, resp)
			if resp.StatusCode != tc.status || got["error"] != tc.code || got["access_token"] != nil {
				t.Errorf("got %d %v, want %d %q", resp.StatusCode, got, tc.status, tc.code)
			}
			if resp.Header.Get("Cache-Control") != "no-store" {
				t.Error("the answer may be cached")
			}
			challenged := resp.Header.Get("WWW-Authenticate") != ""
			triedHeader := strings.Contains(strings.Join(tc.header, "\n"), "Authorization:")
			if challenged != (tc.status == 401 && triedHeader) {
				t.Errorf("WWW-Authenticate sent: %v", challenged)
			}
		})
	}
	if n := len(f.Logins()); n != 0 {
		t.Errorf("%d logins after refusals", n)
	}
}

func TestOAuthEndpoint(t *testing.T) {
	f := newOAuthFixture(t)
	if resp := do(t, f, "GET "+TokenPath, ""); resp.StatusCode != 405 || resp.Header.Get("Allow") != "POST" {
		t.Errorf("GET: %d, Allow %q", resp.StatusCode, resp.Header.Get("Allow"))
	}
	if resp := do(t, f, "POST "+TokenPath+"?grant_type=client_credentials", grantForm, formType, basic("job:1", "p%ss w:rd")); resp.StatusCode != 400 {
		t.Errorf("parameters in the query: %d", resp.StatusCode)
	}
	if resp := do(t, f, "POST /token", ""); resp.StatusCode != 404 {
		t.Errorf("elsewhere: %d", resp.StatusCode)
	}
	meta := decode(t, do(t, f, "GET "+MetadataPath, ""))
	if meta["issuer"] != testIssuer || meta["token_endpoint"] != testIssuer+TokenPath {
		t.Errorf("metadata: %v", meta)
	}
}

func TestOAuthOtherTokenPath(t *testing.T) {
	o := NewOAuth(OAuthConfig{Issuer: testIssuer, Tokens: NewIssuer(nil), TokenPath: "/oauth/token"})
	if resp := do(t, o, "POST "+TokenPath, grantForm, formType); resp.StatusCode != 404 {
		t.Errorf("default path: %d", resp.StatusCode)
	}
	if resp := do(t, o, "POST /oauth/token", grantForm, formType); resp.StatusCode != 401 {
		t.Errorf("configured path: %d", resp.StatusCode)
	}
}

func TestOAuthLifetime(t *testing.T) {
	c := newClock()
	tokens := NewIssuer(c.now)
	o := NewOAuth(OAuthConfig{Issuer: testIssuer, Tokens: tokens, Clients: []Client{{ID: "a", Secret: secret.New("b")}}})
	ask := func() map[string]any {
		return decode(t, do(t, o, "POST "+TokenPath, grantForm, formType, basic("a", "b")))
	}
	o.SetLifetime(30 * time.Second)
	first := ask()
	if first["expires_in"] != 30.0 {
		t.Errorf("expires_in is %v", first["expires_in"])
	}
	c.at = c.at.Add(30 * time.Second)
	if _, state := tokens.Valid(first["access_token"].(string)); state != TokenExpired {
		t.Errorf("state after its lifetime is %v", state)
	}
	o.SetLifetime(0)
	if got := ask(); got["expires_in"] != nil {
		t.Errorf("expires_in is %v, want none", got["expires_in"])
	}
}

func TestOAuthFaults(t *testing.T) {
	f := newOAuthFixture(t)
	f.LimitNext(1, 7*time.Second)
	if resp := do(t, f, "POST "+TokenPath, grantForm, formType); resp.StatusCode != 429 || resp.Header.Get("Retry-After") != "7" {
		t.Errorf("limited: %d %v", resp.StatusCode, resp.Header)
	}
	s, client := serve(t, Host{Name: "auth.acme.example", Handler: f})
	_ = s
	f.SetOutage(Hangup)
	for _, protocol := range []string{"http/1.1", "h2"} {
		r := request(t, "POST", testIssuer+TokenPath, []byte(grantForm))
		if resp, err := client(protocol).Do(r); err == nil {
			resp.Body.Close()
			t.Errorf("%s: got %d during an outage", protocol, resp.StatusCode)
		}
	}
}

func FuzzOAuthForm(f *testing.F) {
	f.Add("application/x-www-form-urlencoded", "grant_type=client_credentials&client_id=a&client_secret=x")
	f.Add("application/json", "{}")
	f.Add("application/x-www-form-urlencoded", "client_assertion=a.b.c&client_assertion_type="+url.QueryEscape(AssertionTypeSpiffe))
	tokens := NewIssuer(nil)
	o := NewOAuth(OAuthConfig{Issuer: testIssuer, Tokens: tokens, Clients: []Client{{ID: "a", Secret: secret.New("not to be guessed")}}})
	f.Fuzz(func(t *testing.T, contentType, body string) {
		resp := do(t, o, "POST "+TokenPath, body, "Content-Type: "+contentType)
		if resp.StatusCode == http.StatusOK || len(o.Logins()) != 0 {
			t.Error("a token was issued to nobody")
		}
	})
}
