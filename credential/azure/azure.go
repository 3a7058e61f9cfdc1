// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package azure is the provider that asks Microsoft Entra ID for an access token of an
// application or user-assigned managed identity, by the client credentials grant with the
// workload's own JWT-SVID as client assertion (workload identity federation). Entra finds
// the federated credential by issuer and subject, which must match exactly, and accepts
// RS256 alone. It caches nothing and retries nothing; the Cache of package credential
// does.
package azure

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/svid"
)

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	Authority         string // empty: public; usgovernment, china, or an https URL without a path
	Tenant            string // ID or domain
	ClientID          string // of the application or managed identity
	Scope             string // of one resource: https://graph.microsoft.com/.default
	AssertionAudience string // of the JWT-SVID; empty: that of the cloud
	Reach             issuer.Options
}

// cloud is one instance of Entra, with the audience that it recommends for assertions.
type cloud struct{ url, audience string }

const tokenExchange = "api://AzureADTokenExchange"

// cloudOf is a closed list: which host gets the assertion is never computed.
func cloudOf(authority string) cloud {
	switch authority {
	case "", "public":
		return cloud{"https://login.microsoftonline.com", tokenExchange}
	case "usgovernment":
		return cloud{"https://login.microsoftonline.us", tokenExchange + "USGov"}
	case "china":
		return cloud{"https://login.partner.microsoftonline.cn", tokenExchange + "China"}
	}
	return cloud{strings.TrimSuffix(authority, "/"), tokenExchange}
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	url    string
	client *issuer.Client
}

// New validates c. It asks nobody.
func New(c Config) (*Provider, error) {
	at := cloudOf(c.Authority)
	u, err := url.Parse(at.url)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("azure: authority %q must be public, usgovernment, china or an https URL without a path", c.Authority)
	case c.Tenant == "" || strings.ContainsAny(c.Tenant, "/?#% "):
		return nil, fmt.Errorf("azure: tenant %q must be its ID or a domain", c.Tenant)
	case c.ClientID == "":
		return nil, fmt.Errorf("azure: clientID is required")
	case !strings.HasSuffix(c.Scope, "/.default"):
		return nil, fmt.Errorf("azure: scope %q must end in /.default", c.Scope)
	}
	if c.AssertionAudience == "" {
		c.AssertionAudience = at.audience
	}
	return &Provider{cfg: c, url: at.url + "/" + url.PathEscape(c.Tenant) + "/oauth2/v2.0/token", client: issuer.New(c.Reach)}, nil
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// algorithm is the only one that Entra accepts in a federated assertion (MUST C12).
const algorithm = "RS256"

// Fetch implements credential.Provider. Refused: Entra said no, or would say no to the
// SVID's signature. Its other errors are those of svid.Fetch and issuer.Client.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	id, err := svid.Fetch(ctx, s, p.cfg.AssertionAudience)
	if err != nil {
		return credential.Token{}, err
	}
	if id.Algorithm != algorithm {
		return credential.Token{}, &credential.Error{Kind: credential.Refused, Err: fmt.Errorf(
			`the JWT-SVID is signed with %.16q, and Entra accepts RS256 only: set jwt_key_type = "rsa-2048" in SPIRE's server`, id.Algorithm)}
	}
	a, err := p.client.PostForm(ctx, p.url, url.Values{
		"grant_type":            {"client_credentials"},
		"client_id":             {p.cfg.ClientID},
		"scope":                 {p.cfg.Scope},
		"client_assertion_type": {exchange.AssertionJWT},
		"client_assertion":      {id.Value.Reveal()},
	}, nil)
	if err != nil {
		return credential.Token{}, err
	}
	if a.Status != http.StatusOK {
		return credential.Token{}, refused(a)
	}
	token, err := exchange.Token(a)
	if err != nil {
		return credential.Token{}, issuer.Within("Entra", err)
	}
	return token, nil
}
