// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"mime"
	"net/http"
	"net/url"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/egret-proxy/egret/internal/secret"
)

// Ways in which a client of an OAuth twin can authenticate, as RFC 8414 names them.
const (
	MethodBasic  = "client_secret_basic"
	MethodPost   = "client_secret_post"
	MethodSpiffe = "jwt-spiffe"
)

// AssertionTypeSpiffe is the client_assertion_type of a JWT-SVID
// (draft-ietf-oauth-spiffe-client-auth).
const AssertionTypeSpiffe = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"

// caller is a client that has authenticated.
type caller struct {
	client  Client
	method  string
	subject spiffeid.ID
}

// authenticate finds the one method that the request uses; more than one is a fault
// (RFC 6749 section 2.3).
func (o *OAuth) authenticate(r *http.Request) (caller, *oauthError) {
	form := r.PostForm
	basic := r.Header.Get("Authorization") != ""
	post, assertion := form.Has("client_secret"), form.Has("client_assertion")
	switch {
	case basic && (post || assertion), post && assertion:
		return caller{}, invalidRequest("more than one way of client authentication")
	case basic:
		return o.basic(r)
	case post:
		return o.secret(MethodPost, form.Get("client_id"), form.Get("client_secret"))
	case assertion:
		return o.spiffe(form)
	}
	return caller{}, invalidClient("no client authentication")
}

func invalidClient(why string) *oauthError {
	return &oauthError{Code: "invalid_client", Description: why}
}

// basic reads client_secret_basic: both parts are form-encoded before they are put
// into the Basic credentials (section 2.3.1).
func (o *OAuth) basic(r *http.Request) (caller, *oauthError) {
	refuse := &oauthError{Code: "invalid_client", challenge: true}
	user, pass, ok := r.BasicAuth()
	if !ok {
		return caller{}, refuse
	}
	id, err := url.QueryUnescape(user)
	if err != nil {
		return caller{}, refuse
	}
	pw, err := url.QueryUnescape(pass)
	if err != nil {
		return caller{}, refuse
	}
	if form := r.PostForm.Get("client_id"); form != "" && form != id {
		return caller{}, invalidRequest("client_id differs from the Authorization header")
	}
	who, fault := o.secret(MethodBasic, id, pw)
	if fault != nil {
		return caller{}, refuse
	}
	return who, nil
}

func (o *OAuth) secret(method, id, pw string) (caller, *oauthError) {
	for _, c := range o.cfg.Clients {
		if c.ID == id && !c.Secret.IsZero() && c.Secret.Equal(secret.New(pw)) {
			return caller{client: c, method: method}, nil
		}
	}
	return caller{}, invalidClient("client authentication failed")
}

// spiffe verifies a JWT-SVID as client assertion. Its audience must be this issuer and
// nothing else: go-spiffe accepts a list that merely contains it.
func (o *OAuth) spiffe(form url.Values) (caller, *oauthError) {
	if form.Get("client_assertion_type") != AssertionTypeSpiffe {
		return caller{}, invalidClient("client_assertion_type is not supported")
	}
	if o.cfg.Bundles == nil {
		return caller{}, invalidClient("no trust bundle is configured")
	}
	svid, err := jwtsvid.ParseAndValidate(form.Get("client_assertion"), o.cfg.Bundles, []string{o.cfg.Issuer})
	if err != nil || len(svid.Audience) != 1 {
		return caller{}, invalidClient("client assertion is not valid here")
	}
	for _, c := range o.cfg.Clients {
		if c.SpiffeID.IsZero() || c.SpiffeID != svid.ID {
			continue
		}
		if id := form.Get("client_id"); id != "" && id != c.ID {
			return caller{}, invalidClient("client_id is not the assertion's client")
		}
		return caller{client: c, method: MethodSpiffe, subject: svid.ID}, nil
	}
	return caller{}, invalidClient("client is not registered")
}

// mediaType returns the lower-case type of the body without parameters, or "".
func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}
