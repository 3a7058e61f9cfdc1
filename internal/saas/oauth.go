// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/secret"
)

// Paths that an OAuth twin serves. TokenPath can be another one (OAuthConfig.TokenPath).
const (
	TokenPath    = "/oauth2/token"
	MetadataPath = "/.well-known/oauth-authorization-server" // RFC 8414
)

// DefaultTokenLifetime is what an OAuth twin gives its tokens unless told otherwise.
const DefaultTokenLifetime = 10 * time.Minute

// maxTokenRequest bounds the form of a token request, in bytes.
const maxTokenRequest = 32 << 10

// Client is one registered client of an OAuth twin. Exactly one of Secret and
// SpiffeID is set: with a Secret it authenticates by client_secret_basic or
// client_secret_post, with a SpiffeID only by its own JWT-SVID.
type Client struct {
	ID       string
	Secret   secret.Secret
	SpiffeID spiffeid.ID
	Scopes   []string // the most it may ask for, and what it gets when it asks for none
}

// OAuthConfig configures an OAuth twin.
type OAuthConfig struct {
	Issuer    string           // issuer identifier (RFC 8414), "https://auth.acme.example"
	TokenPath string           // default: the constant TokenPath
	Tokens    *Issuer          // where issued tokens go; required
	Clients   []Client         // who may ask
	Bundles   jwtbundle.Source // verifies JWT-SVIDs; nil: no client may use one
}

// Login is one successful token request, for tests and for the demonstration.
type Login struct {
	ClientID    string
	Method      string      // client_secret_basic, client_secret_post or jwt-spiffe
	Subject     spiffeid.ID // of the JWT-SVID; zero for the others
	Scopes      []string
	Fingerprint string // of the token that was issued
}

// OAuth is the token endpoint of an authorization server: RFC 6749 sections 2.3, 4.4
// and 5, with draft-ietf-oauth-spiffe-client-auth for clients that have no secret.
type OAuth struct {
	faults
	cfg OAuthConfig

	mu       sync.Mutex
	lifetime time.Duration
	logins   []Login
}

// NewOAuth returns the twin.
func NewOAuth(cfg OAuthConfig) *OAuth {
	if cfg.TokenPath == "" {
		cfg.TokenPath = TokenPath
	}
	cfg.Clients = slices.Clone(cfg.Clients)
	return &OAuth{cfg: cfg, lifetime: DefaultTokenLifetime}
}

// SetLifetime sets the lifetime of tokens issued from now on. Zero leaves expires_in
// out of the answer, as RFC 6749 section 5.1 allows, and the token does not end.
func (o *OAuth) SetLifetime(d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.lifetime = d
}

// Logins returns the successful token requests so far, oldest first.
func (o *OAuth) Logins() []Login {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.logins)
}

// ServeHTTP implements http.Handler.
func (o *OAuth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if o.down(w) {
		return
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	switch {
	case r.URL.Path == MetadataPath && r.Method == http.MethodGet:
		writeJSON(w, http.StatusOK, o.metadata())
	case r.URL.Path != o.cfg.TokenPath:
		writeJSON(w, http.StatusNotFound, map[string]string{"error": "not_found"})
	case r.Method != http.MethodPost: // RFC 6749 section 3.2
		w.Header().Set("Allow", http.MethodPost)
		writeJSON(w, http.StatusMethodNotAllowed, invalidRequest("the token endpoint takes POST only"))
	default:
		o.token(w, r)
	}
}

func (o *OAuth) metadata() map[string]any {
	return map[string]any{
		"issuer":                                o.cfg.Issuer,
		"token_endpoint":                        o.cfg.Issuer + o.cfg.TokenPath,
		"grant_types_supported":                 []string{"client_credentials"},
		"response_types_supported":              []string{},
		"token_endpoint_auth_methods_supported": []string{MethodBasic, MethodPost, MethodSpiffe},
	}
}

// token answers a token request. Section 5.1 wants no-store on every answer that may
// hold a token; the real ones send it on errors too.
func (o *OAuth) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if o.takeLimit(w) {
		writeJSON(w, http.StatusTooManyRequests, &oauthError{Code: "temporarily_unavailable"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxTokenRequest)
	answer, fault := o.grant(r)
	if fault != nil {
		if fault.challenge {
			w.Header().Set("WWW-Authenticate", `Basic realm="oauth2", charset="UTF-8"`)
		}
		writeJSON(w, fault.status(), fault)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func (o *OAuth) grant(r *http.Request) (map[string]any, *oauthError) {
	if fault := checkForm(r); fault != nil {
		return nil, fault
	}
	who, fault := o.authenticate(r)
	if fault != nil {
		return nil, fault
	}
	switch r.PostForm.Get("grant_type") {
	case "client_credentials":
	case "":
		return nil, invalidRequest("grant_type is missing")
	default:
		return nil, &oauthError{Code: "unsupported_grant_type"}
	}
	scopes := strings.Fields(r.PostForm.Get("scope"))
	if len(scopes) == 0 {
		scopes = who.client.Scopes
	}
	for _, s := range scopes {
		if !slices.Contains(who.client.Scopes, s) {
			return nil, &oauthError{Code: "invalid_scope", Description: "a scope is not granted to this client"}
		}
	}
	return o.issue(who, scopes), nil
}

func (o *OAuth) issue(who caller, scopes []string) map[string]any {
	o.mu.Lock()
	defer o.mu.Unlock()
	token := o.cfg.Tokens.Issue(scopes, o.lifetime)
	o.logins = append(o.logins, Login{
		ClientID: who.client.ID, Method: who.method, Subject: who.subject,
		Scopes: slices.Clone(scopes), Fingerprint: token.Fingerprint(),
	})
	answer := map[string]any{"access_token": token.Reveal(), "token_type": "Bearer", "scope": strings.Join(scopes, " ")}
	if o.lifetime > 0 {
		answer["expires_in"] = int(o.lifetime / time.Second)
	}
	return answer
}

// oauthError is an error answer of RFC 6749 section 5.2.
type oauthError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
	challenge   bool   // the client tried Basic, so 401 names it
}

func invalidRequest(why string) *oauthError {
	return &oauthError{Code: "invalid_request", Description: why}
}

func (e *oauthError) status() int {
	if e.Code == "invalid_client" {
		return http.StatusUnauthorized
	}
	return http.StatusBadRequest
}

// checkForm reads the form of a token request: the right type, parameters in the body
// only, none of them twice (section 3.2).
func checkForm(r *http.Request) *oauthError {
	if mediaType(r) != "application/x-www-form-urlencoded" {
		return invalidRequest("the body must be application/x-www-form-urlencoded")
	}
	if err := r.ParseForm(); err != nil {
		return invalidRequest("the form cannot be read")
	}
	if r.URL.RawQuery != "" {
		return invalidRequest("parameters belong into the body")
	}
	for name, values := range r.PostForm {
		if len(values) > 1 {
			return invalidRequest("a parameter is given twice: " + quote(name))
		}
	}
	return nil
}

// quote makes a parameter name fit for error_description, whose characters section 5.2 limits.
func quote(name string) string {
	b, _ := json.Marshal(name)
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < 0x20 || r > 0x7e {
			return -1
		}
		return r
	}, string(b))
}
