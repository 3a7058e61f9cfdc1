// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer/issuertest"
	"github.com/egret-proxy/egret/credential/svid/svidtest"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	clientID     = "egret:client %1" // every byte that form-encoding is there for
	clientSecret = "hush+se/cret:%20&=ü"
	spiffeID     = "spiffe://acme.example/dashboard"
	issuerName   = "https://as.example"
	tokenURL     = issuerName + "/token"
	subjectAud   = "https://as.example/subjects"
)

// server is an authorization server that checks a request as the RFCs demand. say, if
// set, answers in its place after the request was found to be good.
type server struct {
	*issuertest.Server
	t      testing.TB
	domain *svidtest.Domain
	key    *rsa.PrivateKey // of the client
	auth   string
	grant  string
	want   url.Values // further parameters
	say    func(w http.ResponseWriter, r *http.Request)
	bind   string // cnf of the token: the thumbprint of the client's certificate for "own"

	mu      sync.Mutex
	bad     []string // what broke the RFCs
	jtis    map[string]bool
	issued  int
	revoked map[string]bool
}

func newServer(t testing.TB, auth, grant string) *server {
	t.Helper()
	s := twinOf(t, auth, grant)
	s.Server = issuertest.NewServer(t, s)
	return s
}

func twinOf(t testing.TB, auth, grant string) *server {
	t.Helper()
	s := &server{t: t, domain: svidtest.New(t), auth: auth, grant: grant, jtis: map[string]bool{}, revoked: map[string]bool{}}
	if auth == PrivateKeyJWT {
		var err error
		if s.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func (s *server) subject() *svidtest.Subject { return s.domain.Subject(spiffeID) }

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if why := s.malformed(r); why != "" {
		s.bad = append(s.bad, why)
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_request", "error_description": why})
		return
	}
	if err := s.authenticate(r); err != nil {
		s.bad = append(s.bad, err.Error())
		w.Header().Set("WWW-Authenticate", `Basic realm="as"`)
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client", "error_description": err.Error()})
		return
	}
	if r.URL.Path == "/revoke" {
		s.revoked[r.PostForm.Get("token")] = true
		return
	}
	if err := s.checkGrant(r); err != nil {
		s.bad = append(s.bad, err.Error())
		answer(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	if s.say != nil {
		s.say(w, r)
		return
	}
	s.issue(w, r)
}

func (s *server) issue(w http.ResponseWriter, r *http.Request) {
	s.issued++
	o := map[string]any{"access_token": fmt.Sprintf("at-%d", s.issued), "token_type": "Bearer", "expires_in": 3600}
	if s.grant == TokenExchange {
		o["issued_token_type"] = exchange.TypeAccess
	}
	if s.bind != "" {
		o["access_token"] = s.bound(r)
	}
	w.Header().Set("Cache-Control", "no-store")
	answer(w, http.StatusOK, o)
}

// bound makes a JWT that names a certificate (RFC 8705, 3.1).
func (s *server) bound(r *http.Request) string {
	claims := map[string]any{"sub": "x"}
	switch s.bind {
	case "own":
		sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
		claims["cnf"] = map[string]any{"x5t#S256": base64.RawURLEncoding.EncodeToString(sum[:])}
	case "other":
		claims["cnf"] = map[string]any{"x5t#S256": "AAAA"}
	}
	payload, _ := json.Marshal(claims)
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func (s *server) malformed(r *http.Request) string {
	switch err := r.ParseForm(); {
	case r.Method != http.MethodPost || r.TLS == nil:
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
		if r.URL.Path == "/token" && r.PostForm.Get(k) != v[0] {
			return "parameter " + k
		}
	}
	return ""
}

func (s *server) checkGrant(r *http.Request) error {
	grants := map[string]string{
		ClientCredentials: ClientCredentials, TokenExchange: exchange.GrantExchange, JWTBearer: exchange.GrantJWTBearer, RefreshToken: RefreshToken,
	}
	if got := r.PostForm.Get("grant_type"); got != grants[s.grant] {
		return fmt.Errorf("grant_type %q", got)
	}
	var token string
	switch s.grant {
	case TokenExchange:
		if token = r.PostForm.Get("subject_token"); r.PostForm.Get("subject_token_type") != exchange.TypeJWT || r.PostForm.Has("actor_token") {
			return errors.New("subject_token_type or actor")
		}
	case JWTBearer:
		token = r.PostForm.Get("assertion")
	default:
		return nil
	}
	_, err := svidtest.Verify(s.domain.JWKS(), token, svidtest.Expect{Audience: subjectAud, Subject: spiffeID})
	return err
}

// authenticate takes exactly one proof (RFC 6749, 2.3).
func (s *server) authenticate(r *http.Request) error {
	basic, form, assertion := r.Header.Get("Authorization"), r.PostForm.Get("client_secret"), r.PostForm.Get("client_assertion")
	used := len(r.TLS.PeerCertificates)
	for _, v := range []string{basic, form, assertion} {
		if v != "" {
			used++
		}
	}
	if want := 1; used != want && s.auth != None || s.auth == None && used != 0 {
		return fmt.Errorf("%d ways of authentication", used)
	}
	switch s.auth {
	case ClientSecretBasic:
		return s.checkBasic(basic)
	case ClientSecretPost:
		if r.PostForm.Get("client_id") != clientID || form != clientSecret {
			return errors.New("id or secret")
		}
		return nil
	case TLSClientAuth, SelfSignedTLS:
		return s.checkCertificate(r)
	case None:
		return nil
	case JWTSPIFFE:
		if r.PostForm.Get("client_assertion_type") != assertionSPIFFE {
			return errors.New("client_assertion_type")
		}
		_, err := svidtest.Verify(s.domain.JWKS(), assertion, svidtest.Expect{Audience: issuerName, Subject: spiffeID})
		return err
	}
	return s.checkKey(r, assertion)
}

func (s *server) checkBasic(h string) error {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(h, "Basic "))
	if err != nil || !strings.HasPrefix(h, "Basic ") {
		return errors.New("not Basic")
	}
	id, sec, _ := strings.Cut(string(raw), ":")
	id, err1 := url.QueryUnescape(id)
	sec, err2 := url.QueryUnescape(sec)
	if err := errors.Join(err1, err2); err != nil || id != clientID || sec != clientSecret {
		return fmt.Errorf("id or secret: %w", err)
	}
	return nil
}

func (s *server) checkCertificate(r *http.Request) error {
	_, err := r.TLS.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: s.domain.Roots(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if got := r.TLS.PeerCertificates[0].URIs[0].String(); err != nil || got != spiffeID || r.PostForm.Get("client_id") != spiffeID {
		return fmt.Errorf("%q is not %q: %w", r.PostForm.Get("client_id"), got, err)
	}
	return nil
}

// checkKey is OpenID Connect Core, 9, with FAPI's short life and a jti that is used once.
func (s *server) checkKey(r *http.Request, assertion string) error {
	tok, err := jwt.ParseSigned(assertion, []jose.SignatureAlgorithm{jose.RS256, jose.PS256})
	if err != nil || r.PostForm.Get("client_assertion_type") != exchange.AssertionJWT || tok.Headers[0].KeyID != "k1" {
		return fmt.Errorf("type or form: %w", err)
	}
	var c jwt.Claims
	if err := tok.Claims(s.key.Public(), &c); err != nil {
		return err
	}
	if c.ID == "" || s.jtis[c.ID] || c.Expiry == nil || c.IssuedAt == nil || c.Expiry.Time().Sub(c.IssuedAt.Time()) > 5*time.Minute {
		return errors.New("jti, exp or iat")
	}
	s.jtis[c.ID] = true
	if len(c.Audience) != 1 || r.PostForm.Get("client_id") != clientID {
		return errors.New("aud or client_id")
	}
	return c.Validate(jwt.Expected{Issuer: clientID, Subject: clientID, AnyAudience: jwt.Audience{issuerName}, Time: time.Now()})
}

// config is a good one for s.
func (s *server) config() Config {
	c := Config{TokenURL: tokenURL, ClientAuth: s.auth, Grant: s.grant}
	if s.Server != nil {
		c.Issuer = s.Options()
	}
	switch s.auth {
	case ClientSecretBasic, ClientSecretPost:
		c.ClientID = clientID
		c.ClientSecret = func() (secret.Secret, error) { return secret.New(clientSecret), nil }
	case JWTSPIFFE:
		c.AssertionAudience = issuerName
	case PrivateKeyJWT:
		c.ClientID, c.AssertionAudience = clientID, issuerName
		c.ClientKey = ClientKey{ID: "k1", Key: func() (secret.Secret, error) { return secret.New(pemOf(s.t, s.key)), nil }}
	}
	if c.presentsSubject() {
		c.SubjectAudience = subjectAud
	}
	return c
}

func pemOf(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// provider makes one for s; change may spoil it.
func (s *server) provider(change func(*Config)) *Provider {
	s.t.Helper()
	c := s.config()
	if change != nil {
		change(&c)
	}
	return provide(s.t, c)
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

func ecPEM(t testing.TB) string {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, k)
}
