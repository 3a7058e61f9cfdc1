// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package oauth2 is the provider that asks a token endpoint for an access token: by the
// client credentials grant (RFC 6749, 4.4), token exchange (RFC 8693), the JWT bearer
// grant (RFC 7523), or a refresh token. The client proves itself with a secret, a key, or
// the workload's own SVID (draft-ietf-oauth-spiffe-client-auth, RFC 8705), in which case
// egret holds no long-lived secret at all. It caches nothing and retries nothing; the
// Cache of package credential does.
package oauth2

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/rotation"
	"github.com/egret-proxy/egret/credential/svid"
	"github.com/egret-proxy/egret/internal/secret"
)

// Grants.
const (
	ClientCredentials = "client_credentials"
	TokenExchange     = "token_exchange"
	JWTBearer         = "jwt_bearer"
	RefreshToken      = "refresh_token"
)

// Ways in which the client proves itself.
const (
	ClientSecretBasic = "client_secret_basic"
	ClientSecretPost  = "client_secret_post"
	PrivateKeyJWT     = "private_key_jwt"
	JWTSPIFFE         = "jwt-spiffe"
	TLSClientAuth     = "tls_client_auth"
	SelfSignedTLS     = "self_signed_tls_client_auth"
	None              = "none"
)

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	Grant         string // empty: ClientCredentials
	TokenURL      string // https, without user, password and fragment
	RevocationURL string // of RFC 7009; empty: values are not ended there

	ClientID          string // required but with an SVID, and without a proof
	ClientAuth        string // empty: ClientSecretBasic
	ClientSecret      func() (secret.Secret, error)
	ClientKey         ClientKey // of PrivateKeyJWT
	AssertionAudience string    // of the client's own proof, where that is a JWT; empty: TokenURL

	SubjectAudience    string // the only audience of the JWT-SVID that TokenExchange and JWTBearer present; empty: TokenURL
	RequestedTokenType string // of TokenExchange; empty: the server's choice
	Scopes             []string
	Audience           string
	Resource           string // absolute URI (RFC 8707)

	State Rotation // of RefreshToken

	Issuer issuer.Options // how both URLs are reached
}

// ClientKey signs client assertions.
type ClientKey struct {
	Key       func() (secret.Secret, error) // PEM or JWK
	ID        string                        // kid; empty: that of the JWK, else none
	Algorithm string                        // RS256, PS256 or ES256; empty: RS256 or ES256, as the key is
}

// Rotation is where a refresh token is kept, which works only once.
type Rotation struct {
	Store rotation.Store
	Lease rotation.Lease
	rotation.Timing
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	client *issuer.Client
	rotor  *rotation.Rotor // nil but for RefreshToken
}

// New validates c. It does not ask the endpoint.
func New(c Config) (*Provider, error) {
	c.setDefaults()
	for _, check := range []func() error{c.checkURLs, c.checkAuth, c.checkGrant, c.checkParams} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("oauth2: %w", err)
		}
	}
	c.Scopes = slices.Clone(c.Scopes)
	p := &Provider{cfg: c, client: issuer.New(c.Issuer)}
	if c.Grant == RefreshToken {
		var err error
		p.rotor, err = rotation.New(rotation.Options{
			Store: c.State.Store, Lease: c.State.Lease, Ask: p.refresh, Timing: c.State.Timing, Logger: c.Issuer.Logger,
		})
		if err != nil {
			return nil, fmt.Errorf("oauth2: %w", err)
		}
	}
	return p, nil
}

// Fetch implements credential.Provider. Refused: the server said no to this client,
// subject or scope. Unreachable: network, time-out, 429, 5xx. NotMinted: the answer is not
// one of RFC 6749, or not what was asked for. Unconfigured: an SVID is needed of a caller
// for whom egret holds none.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	if p.rotor != nil {
		return p.rotor.Token(ctx)
	}
	form, err := p.grant(ctx, s)
	if err != nil {
		return credential.Token{}, err
	}
	b, err := p.prove(ctx, s)
	if err != nil {
		return credential.Token{}, err
	}
	tok, err := p.token(ctx, form, b)
	if err != nil {
		return credential.Token{}, issuer.Within("token endpoint "+hostOf(p.cfg.TokenURL), err)
	}
	if p.cfg.RevocationURL != "" {
		tok.Revoke = p.revocation(tok.Values["token"], s)
	}
	return tok, nil
}

// token asks for one and holds the answer to what was asked for.
func (p *Provider) token(ctx context.Context, form url.Values, b proof) (credential.Token, error) {
	a, err := p.post(ctx, p.cfg.TokenURL, form, b)
	if err != nil {
		return credential.Token{}, err
	}
	tok, err := p.read(a)
	if err != nil {
		return credential.Token{}, err
	}
	return bind(tok, b.certificate)
}

// grant is what is asked for, without the client's proof.
func (p *Provider) grant(ctx context.Context, s credential.Subject) (url.Values, error) {
	form := url.Values{"grant_type": {ClientCredentials}}
	setIf(form, "scope", strings.Join(p.cfg.Scopes, " "))
	setIf(form, "audience", p.cfg.Audience)
	setIf(form, "resource", p.cfg.Resource)
	if p.cfg.Grant == ClientCredentials {
		return form, nil
	}
	token, err := svid.Fetch(ctx, s, p.cfg.SubjectAudience)
	if err != nil {
		return nil, issuer.Within(p.cfg.Grant, err)
	}
	if p.cfg.Grant == JWTBearer { // RFC 7523, 2.1
		form.Set("grant_type", exchange.GrantJWTBearer)
		form.Set("assertion", token.Value.Reveal())
		return form, nil
	}
	form.Set("grant_type", exchange.GrantExchange) // RFC 8693, 2.1; there is no actor: egret acts as the workload
	form.Set("subject_token", token.Value.Reveal())
	form.Set("subject_token_type", exchange.TypeJWT)
	setIf(form, "requested_token_type", p.cfg.RequestedTokenType)
	return form, nil
}

func setIf(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

func (p *Provider) post(ctx context.Context, to string, form url.Values, b proof) (*issuer.Answer, error) {
	for name, values := range b.form {
		form[name] = values
	}
	req, err := issuer.FormRequest(ctx, to, form)
	if err != nil {
		return nil, err
	}
	if b.basic != "" {
		req.Header.Set("Authorization", b.basic)
	}
	return p.client.Ask(req, b.certificate)
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }
