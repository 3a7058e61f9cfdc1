// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"net/url"
	"strings"
)

// Ways to authenticate at a token endpoint.
const (
	clientSecretBasic = "client_secret_basic"
	clientSecretPost  = "client_secret_post"
	clientJWTSPIFFE   = "jwt-spiffe"
)

// OAuth2Provider asks a token endpoint (RFC 6749, 4.4).
type OAuth2Provider struct {
	// Grant is client_credentials. Required.
	Grant string `json:"grant"`
	// TokenURL is https, without user information, query and fragment; nothing of the application's request may influence it. Required.
	TokenURL string `json:"tokenURL"`
	// ClientID is required by client_secret_basic and client_secret_post.
	ClientID string `json:"clientID"`
	// ClientSecret is needed by client_secret_basic and client_secret_post.
	ClientSecret *SecretSource `json:"clientSecret,omitempty"`
	// ClientAuth is client_secret_basic (default), client_secret_post, or jwt-spiffe: the workload's JWT-SVID as client assertion (draft-ietf-oauth-spiffe-client-auth).
	ClientAuth string `json:"clientAuth,omitempty"`
	// AssertionAudience is the audience of that JWT-SVID: the issuer identifier of the authorization server. Default: the token URL.
	AssertionAudience string `json:"assertionAudience,omitempty"`
	// Scopes are asked for, one to an entry. Default: those that the issuer gives by itself.
	Scopes []string `json:"scopes,omitempty"`
	// Audience is asked for where the issuer knows that parameter. Default: none.
	Audience string `json:"audience,omitempty"`
	// Resource is an absolute URI (RFC 8707). Default: none.
	Resource string `json:"resource,omitempty"`
	// Endpoint is how the host of the token URL is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *OAuth2Provider) check(f *faults, path string) {
	f.oneOf(path+".grant", p.Grant, "client_credentials")
	f.wrong(path+".tokenURL", p.TokenURL, checkTokenURL(p.TokenURL))
	f.clientAuth(path, p)
	for i, s := range p.Scopes {
		if !scopeToken(s) {
			f.add(Fault{fmt.Sprintf("%s.scopes[%d]", path, i), s, "must be one scope (RFC 6749, 3.3)", "one list entry for each scope"})
		}
	}
	f.distinct(path+".scopes", p.Scopes)
	f.optionalLine(path+".audience", p.Audience)
	f.resource(path+".resource", p.Resource)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) clientAuth(path string, p *OAuth2Provider) {
	f.oneOf(path+".clientAuth", p.ClientAuth, "", clientSecretBasic, clientSecretPost, clientJWTSPIFFE)
	f.optionalLine(path+".clientID", p.ClientID)
	if p.ClientAuth == clientJWTSPIFFE {
		f.absent(path+".clientSecret", p.ClientSecret != nil, "with clientAuth: jwt-spiffe")
		f.optionalLine(path+".assertionAudience", p.AssertionAudience)
		return
	}
	f.absent(path+".assertionAudience", p.AssertionAudience != "", "without clientAuth: jwt-spiffe")
	if p.ClientID == "" {
		f.bad(path+".clientID", "", "is required")
	}
	if p.ClientSecret == nil {
		f.add(Fault{path + ".clientSecret", "", "is required", "or use clientAuth: jwt-spiffe, which needs none"})
		return
	}
	f.source(path+".clientSecret", p.ClientSecret)
}

func (p *OAuth2Provider) traits() traits {
	return traits{usesSVID: p.ClientAuth == clientJWTSPIFFE, audience: p.Audience, resource: p.Resource, scopes: p.Scopes}
}

func (f *faults) resource(path, value string) {
	if value == "" {
		return
	}
	u, err := url.Parse(value)
	if err != nil || !u.IsAbs() || strings.Contains(value, "#") || !printable(value) {
		f.bad(path, value, "must be an absolute URI without fragment (RFC 8707)")
	}
}

// scopeToken implements RFC 6749, 3.3: 1*( %x21 / %x23-5B / %x5D-7E ).
func scopeToken(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool {
		return r < 0x21 || r > 0x7e || r == '"' || r == '\\'
	}) < 0
}
