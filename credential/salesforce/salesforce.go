// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package salesforce is the provider of Salesforce access tokens by the JWT bearer flow:
// a JWT that the key of an external client app signs names the user as whom egret acts.
// Salesforce tells no lifetime (the session settings of the org count, and a refusal by
// the destination), and says in its answer at which host the token is good: one that is
// not configured is refused, since a response must not choose where a token goes.
package salesforce

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/keyjwt"
	"github.com/egret-proxy/egret/internal/secret"
)

// LoginURL is that of production; of a sandbox it is https://test.salesforce.com.
const LoginURL = "https://login.salesforce.com"

// assertionLife is within the 3 minutes that Salesforce allows, with room for its clock.
const assertionLife = 2 * time.Minute

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	LoginURL string // empty: LoginURL. It is asked, at /services/oauth2/token
	Audience string // aud: LoginURL or https://test.salesforce.com; empty: LoginURL where that is one of the two
	ClientID string // consumer key of the app: iss
	Username string // sub
	Key      func() (secret.Secret, error)
	// Hosts are the only ones at which a token may be good: acme.my.salesforce.com.
	Hosts  []string
	Issuer issuer.Options
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	url    string
	host   string
	client *issuer.Client
}

// New validates c. It does no I/O.
func New(c Config) (*Provider, error) {
	c.LoginURL = strings.TrimRight(cmp.Or(c.LoginURL, LoginURL), "/")
	if c.Audience == "" && slices.Contains(audiences(), c.LoginURL) {
		c.Audience = c.LoginURL
	}
	u, err := url.Parse(c.LoginURL)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Path != "" || strings.ContainsAny(c.LoginURL, "?#"):
		return nil, errors.New("salesforce: loginURL must be https with a host and nothing else")
	case !slices.Contains(audiences(), c.Audience):
		return nil, fmt.Errorf("salesforce: audience %q must be one of %s", c.Audience, strings.Join(audiences(), ", "))
	case c.ClientID == "" || c.Username == "" || c.Key == nil:
		return nil, errors.New("salesforce: needs clientID, username and a private key")
	case len(c.Hosts) == 0 || slices.Contains(c.Hosts, ""):
		return nil, errors.New("salesforce: needs the hosts at which its tokens may be good")
	}
	c.Hosts = slices.Clone(c.Hosts)
	return &Provider{cfg: c, url: c.LoginURL + "/services/oauth2/token", host: u.Host, client: issuer.New(c.Issuer)}, nil
}

// audiences are all that Salesforce knows.
func audiences() []string { return []string{LoginURL, "https://test.salesforce.com"} }

// Fetch implements credential.Provider: "token" is the access token, of which no lifetime
// is told. Refused: the app, key or user is not approved. NotMinted: the key cannot sign,
// or the token is for another host.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	assertion, err := p.assertion()
	if err != nil {
		return credential.Token{}, err
	}
	form := url.Values{"grant_type": {exchange.GrantJWTBearer}, "assertion": {assertion.Reveal()}}
	a, err := p.client.PostForm(ctx, p.url, form, nil)
	if err != nil {
		return credential.Token{}, err
	}
	tok, err := p.read(a)
	if err != nil {
		return credential.Token{}, issuer.Within(p.host, err)
	}
	return tok, nil
}

func (p *Provider) assertion() (secret.Secret, error) {
	text, err := p.cfg.Key()
	if err != nil {
		return secret.Secret{}, issuer.Within("private key", err)
	}
	key, err := keyjwt.Parse(text)
	if err != nil {
		return secret.Secret{}, issuer.NotMinted("private key: %w", err)
	}
	signed, err := key.Sign(keyjwt.Header{Algorithm: keyjwt.RS256}, map[string]any{
		"iss": p.cfg.ClientID, "sub": p.cfg.Username, "aud": p.cfg.Audience, "exp": time.Now().Add(assertionLife).Unix(), "jti": keyjwt.NewID(),
	})
	if err != nil {
		return secret.Secret{}, issuer.NotMinted("private key: %w", err)
	}
	return signed, nil
}

func (p *Provider) read(a *issuer.Answer) (credential.Token, error) {
	tok, err := exchange.Token(a)
	if err != nil {
		return credential.Token{}, err
	}
	o, err := a.Object()
	if err != nil {
		return credential.Token{}, err
	}
	if !p.known(o.Text("instance_url")) {
		return credential.Token{}, issuer.NotMinted("the token is good at another host than those configured: name it in hosts")
	}
	return tok, nil
}

// known reports an instance_url that is the origin of a configured host.
func (p *Provider) known(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Scheme == "https" && u.User == nil && strings.Trim(u.Path, "/") == "" && !strings.ContainsAny(raw, "?#") &&
		slices.ContainsFunc(p.cfg.Hosts, func(h string) bool { return strings.EqualFold(h, u.Host) })
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }
