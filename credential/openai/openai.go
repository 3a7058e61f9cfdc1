// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package openai is the provider that exchanges the workload's own JWT-SVID for an access
// token of the OpenAI API (workload identity federation, RFC 8693 with a JSON body). The
// token never outlives the SVID that was exchanged for it: SPIRE's five minutes are the
// rule, and the entry's jwt_svid_ttl makes them more. It caches nothing and retries
// nothing; the Cache of package credential does.
package openai

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/svid"
)

// Audience of the JWT-SVID where the identity provider at OpenAI names no other one.
const Audience = "https://api.openai.com/v1"

const tokenURL = "https://auth.openai.com/oauth/token"

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	IdentityProvider  string // the ID of the workload identity provider
	ServiceAccount    string
	AssertionAudience string // of the JWT-SVID; empty: Audience
	Reach             issuer.Options
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	client *issuer.Client
}

// New validates c. It asks nobody.
func New(c Config) (*Provider, error) {
	if c.IdentityProvider == "" || c.ServiceAccount == "" {
		return nil, errors.New("openai: identity provider and service account are required")
	}
	if c.AssertionAudience == "" {
		c.AssertionAudience = Audience
	}
	return &Provider{cfg: c, client: issuer.New(c.Reach)}, nil
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// request is the body of the exchange.
type request struct {
	Grant            string `json:"grant_type"`
	SubjectToken     string `json:"subject_token"`
	SubjectTokenType string `json:"subject_token_type"`
	IdentityProvider string `json:"identity_provider_id"`
	ServiceAccount   string `json:"service_account_id"`
}

// Fetch implements credential.Provider. Refused: the endpoint said no, or would say no to
// an SVID without iss. Its other errors are those of svid.Fetch and issuer.Client.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	id, err := svid.Fetch(ctx, s, p.cfg.AssertionAudience)
	if err != nil {
		return credential.Token{}, err
	}
	if id.Issuer == "" || id.Issued.IsZero() {
		return credential.Token{}, &credential.Error{Kind: credential.Refused, Err: errors.New(
			"the JWT-SVID has no iss or no iat, which OpenAI needs: set jwt_issuer in SPIRE's server")}
	}
	left := id.Remaining()
	body, err := json.Marshal(request{
		exchange.GrantExchange, id.Value.Reveal(), exchange.TypeJWT, p.cfg.IdentityProvider, p.cfg.ServiceAccount,
	})
	if err != nil {
		return credential.Token{}, &credential.Error{Kind: credential.Unconfigured, Err: errors.New("the request cannot be made")}
	}
	a, err := p.client.PostJSON(ctx, tokenURL, string(body), nil)
	if err != nil {
		return credential.Token{}, err
	}
	token, err := exchange.Token(a)
	if err != nil {
		return credential.Token{}, issuer.Within("token exchange", err)
	}
	if token.Lifetime <= 0 || token.Lifetime > left { // told or not, it ends with the SVID
		token.Lifetime = left
	}
	return token, nil
}
