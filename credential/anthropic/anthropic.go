// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package anthropic is the provider that exchanges the workload's own JWT-SVID for an
// access token of the Claude API (workload identity federation, RFC 7523). The token is a
// Bearer one and of one workspace; an x-api-key beside it would be taken instead, so the
// injection removes it. It caches nothing and retries nothing; the Cache of package
// credential does.
package anthropic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/svid"
)

// Audience of the JWT-SVID where the federation rule names no other one.
const Audience = "https://api.anthropic.com"

const tokenURL = "https://api.anthropic.com/v1/oauth/token"

// betas route the exchange to the federation service.
const betas = "oauth-2025-04-20,oidc-federation-2026-04-01"

// maxLife is the longest life that a federation rule can give a token.
const maxLife = 24 * time.Hour

// maxAssertion is the size of an assertion that the endpoint reads.
const maxAssertion = 16 << 10

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	FederationRule    string // fdrl_…
	Organization      string // a UUID
	ServiceAccount    string // svac_…
	Workspace         string // wrkspc_…, default, or empty: the only one of the rule
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
	if c.FederationRule == "" || c.Organization == "" || c.ServiceAccount == "" {
		return nil, errors.New("anthropic: federation rule, organization and service account are required")
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
	Grant          string `json:"grant_type"`
	Assertion      string `json:"assertion"`
	FederationRule string `json:"federation_rule_id"`
	Organization   string `json:"organization_id"`
	ServiceAccount string `json:"service_account_id"`
	Workspace      string `json:"workspace_id,omitempty"`
}

// Fetch implements credential.Provider. Refused: the endpoint said no, or would say no to
// an SVID without iss or iat. Its other errors are those of svid.Fetch and issuer.Client.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	id, err := svid.Fetch(ctx, s, p.cfg.AssertionAudience)
	if err != nil {
		return credential.Token{}, err
	}
	if err := acceptable(id); err != nil {
		return credential.Token{}, &credential.Error{Kind: credential.Refused, Err: err}
	}
	body, err := json.Marshal(request{
		exchange.GrantJWTBearer, id.Value.Reveal(), p.cfg.FederationRule, p.cfg.Organization, p.cfg.ServiceAccount, p.cfg.Workspace,
	})
	if err != nil {
		return credential.Token{}, &credential.Error{Kind: credential.Unconfigured, Err: errors.New("the request cannot be made")}
	}
	a, err := p.client.PostJSON(ctx, tokenURL, string(body), http.Header{"Anthropic-Beta": {betas}})
	if err != nil {
		return credential.Token{}, err
	}
	token, err := exchange.Token(a)
	if err != nil {
		return credential.Token{}, issuer.Within("token exchange", p.hint(a, err))
	}
	if token.Lifetime > maxLife { // no rule can say so: not told (MUST C5)
		token.Lifetime = 0
	}
	return token, nil
}

// acceptable tells early what the endpoint would answer with a bare 401.
func acceptable(id svid.Token) error {
	switch {
	case id.Issuer == "":
		return errors.New("the JWT-SVID has no iss, which Anthropic needs: set jwt_issuer in SPIRE's server")
	case id.Issued.IsZero():
		return errors.New("the JWT-SVID has no iat, which Anthropic needs")
	case len(id.Value.Reveal()) > maxAssertion:
		return fmt.Errorf("the JWT-SVID has %d bytes, and Anthropic reads at most %d", len(id.Value.Reveal()), maxAssertion)
	}
	return nil
}

// hint says what a refusal, which tells no more than that, usually means.
func (p *Provider) hint(a *issuer.Answer, err error) error {
	if a.Status != http.StatusUnauthorized && a.Status != http.StatusBadRequest {
		return err
	}
	hint := "the federation rule must match the SVID's iss, sub and aud"
	if p.cfg.Workspace == "" {
		hint += ", and one of several workspaces be named"
	}
	return issuer.Within(hint+"; if it is to be used once, set jwtSVIDIncludeJTI on SPIRE's entry", err)
}
