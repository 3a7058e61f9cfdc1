// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID     = "egret:client %1" // every byte that form-encoding is there for
	clientSecret = "hush+se/cret:%20&=ü"
	spiffeID     = "spiffe://acme.example/dashboard"
	issuerName   = "https://as.example"
)

// server is an authorization server that checks a request as RFC 6749 demands. fault,
// if set, answers in its place after the request was found to be good.
type server struct {
	*httptest.Server
	t      testing.TB
	key    *ecdsa.PrivateKey
	auth   string
	want   url.Values // further parameters
	fault  http.HandlerFunc
	expect string // secret
	issued atomic.Int32
	bad    atomic.Int32 // requests that break the RFC
}

func newServer(t testing.TB, auth string) *server {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, key: key, auth: auth, expect: clientSecret}
	s.Server = httptest.NewUnstartedServer(s)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if why := s.malformed(r); why != "" {
		s.bad.Add(1)
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": why})
		return
	}
	if err := s.authenticate(r); err != nil {
		w.Header().Set("WWW-Authenticate", `Basic realm="as"`)
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": err.Error()})
		return
	}
	if s.fault != nil {
		s.fault(w, r)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, http.StatusOK, map[string]any{"access_token": fmt.Sprintf("at-%d", s.issued.Add(1)), "token_type": "Bearer", "expires_in": 3600})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *server) malformed(r *http.Request) string {
	switch err := r.ParseForm(); {
	case r.Method != http.MethodPost || r.TLS == nil || r.TLS.Version < tls.VersionTLS12:
		return "not a POST over TLS"
	case err != nil || r.Header.Get("Content-Type") != "application/x-www-form-urlencoded":
		return "not a form"
	case len(r.URL.RawQuery) > 0 && r.URL.RawQuery != "tenant=1":
		return "parameters in the URL"
	}
	for k, v := range r.PostForm {
		if len(v) != 1 || v[0] == "" {
			return "parameter " + k + " is repeated or empty"
		}
	}
	for k, v := range s.want {
		if r.PostForm.Get(k) != v[0] {
			return "parameter " + k
		}
	}
	if r.PostForm.Get("grant_type") != "client_credentials" {
		return "grant_type"
	}
	return ""
}

func (s *server) authenticate(r *http.Request) error {
	basic, form, assertion := r.Header.Get("Authorization"), r.PostForm.Get("client_secret"), r.PostForm.Get("client_assertion")
	used := 0
	for _, v := range []string{basic, form, assertion} {
		if v != "" {
			used++
		}
	}
	if used != 1 {
		return errors.New("not exactly one way of authentication (RFC 6749, 2.3)")
	}
	switch s.auth {
	case ClientSecretBasic:
		return s.checkBasic(basic)
	case ClientSecretPost:
		if r.PostForm.Get("client_id") != clientID || form != s.expect {
			return errors.New("id or secret")
		}
		return nil
	}
	if r.PostForm.Get("client_assertion_type") != assertionType {
		return errors.New("client_assertion_type")
	}
	return s.checkAssertion(assertion)
}

func (s *server) checkBasic(h string) error {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h, "Basic "))
	if err != nil || !strings.HasPrefix(h, "Basic ") {
		return errors.New("not Basic")
	}
	id, sec, _ := strings.Cut(string(raw), ":")
	id, err1 := url.QueryUnescape(id)
	sec, err2 := url.QueryUnescape(sec)
	if err := errors.Join(err1, err2); err != nil || id != clientID || sec != s.expect {
		return fmt.Errorf("id or secret: %w", err)
	}
	return nil
}

func (s *server) checkAssertion(a string) error {
	tok, err := jwt.ParseSigned(a, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return err
	}
	var c jwt.Claims
	if err := tok.Claims(s.key.Public(), &c); err != nil {
		return err
	}
	if len(c.Audience) != 1 || c.Audience[0] != issuerName {
		return errors.New("sole audience must be the issuer")
	}
	return c.Validate(jwt.Expected{Subject: spiffeID, Time: time.Now()})
}

// subject is a workload with JWT-SVIDs that the server trusts.
type subject struct {
	key      *ecdsa.PrivateKey
	audience []string // instead of what is asked for
	err      error
	asked    []string
}

func (s *subject) JWTSVID(_ context.Context, aud string) (secret.Secret, time.Time, error) {
	s.asked = append(s.asked, aud)
	exp := time.Now().Add(5 * time.Minute)
	if s.err != nil {
		return secret.Secret{}, exp, s.err
	}
	auds := jwt.Audience{aud}
	if s.audience != nil {
		auds = s.audience
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, nil)
	if err != nil {
		return secret.Secret{}, exp, err
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{Subject: spiffeID, Audience: auds, Expiry: jwt.NewNumericDate(exp)}).Serialize()
	return secret.New(text), exp, err
}

func (s *subject) X509SVID(context.Context) (tls.Certificate, error) {
	return tls.Certificate{}, errors.New("not held")
}

func (s *server) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	return pool
}

// provider makes one for s; change may spoil it.
func (s *server) provider(change func(*Config)) *Provider {
	s.t.Helper()
	c := Config{TokenURL: s.URL + "/token", ClientAuth: s.auth, Roots: s.roots(), Timeout: 20 * time.Second}
	if s.auth == JWTSPIFFE {
		c.AssertionAudience = issuerName
	} else {
		c.ClientID = clientID
		c.ClientSecret = func() (secret.Secret, error) { return secret.New(clientSecret), nil }
	}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = p.Close() })
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
