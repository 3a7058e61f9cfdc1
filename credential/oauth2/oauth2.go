// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package oauth2 is the provider that asks a token endpoint for an access token by the
// client credentials grant (RFC 6749, 4.4). The client proves itself with a secret, or
// with the workload's own JWT-SVID (draft-ietf-oauth-spiffe-client-auth), in which case
// egret holds no long-lived secret at all. It caches nothing and retries nothing; the
// Cache of package credential does.
package oauth2

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/wireerr"
)

// Ways in which the client proves itself.
const (
	ClientSecretBasic = "client_secret_basic"
	ClientSecretPost  = "client_secret_post"
	JWTSPIFFE         = "jwt-spiffe"
)

// assertionType is that of draft-ietf-oauth-spiffe-client-auth-02, 3.1.
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	TokenURL          string // https, without user, password and fragment
	ClientID          string // required with a client secret, optional with jwt-spiffe
	ClientAuth        string // empty: client_secret_basic
	ClientSecret      func() (secret.Secret, error)
	AssertionAudience string // the only audience of the JWT-SVID; empty: TokenURL
	Scopes            []string
	Audience          string
	Resource          string // absolute URI (RFC 8707)

	Roots   *x509.CertPool // nil: the system's
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	Proxy   func(*http.Request) (*url.URL, error) // nil: none; the environment is never asked
	Timeout time.Duration                         // of one call; default 8 s
	Logger  *slog.Logger                          // nil: silent
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	client *http.Client
	log    *slog.Logger
}

// New validates c. It does not ask the endpoint.
func New(c Config) (*Provider, error) {
	if c.ClientAuth == "" {
		c.ClientAuth = ClientSecretBasic
	}
	if c.AssertionAudience == "" && c.ClientAuth == JWTSPIFFE {
		c.AssertionAudience = c.TokenURL
	}
	if c.Timeout <= 0 {
		c.Timeout = 8 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	for _, check := range []func() error{c.checkURL, c.checkAuth, c.checkParams} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("oauth2: %w", err)
		}
	}
	c.Scopes = slices.Clone(c.Scopes)
	return &Provider{cfg: c, client: newClient(c), log: c.Logger}, nil
}

func (c *Config) checkURL() error {
	u, err := url.Parse(c.TokenURL)
	switch {
	case err != nil:
		return errors.New("tokenURL is not a URL") // the parser's error quotes it, with a password
	case u.User != nil:
		return errors.New("tokenURL must hold no user or password: use clientID and clientSecret")
	case u.Scheme != "https" || u.Hostname() == "":
		return fmt.Errorf("tokenURL %q must be https with a host", c.TokenURL)
	case u.Fragment != "" || strings.HasSuffix(c.TokenURL, "#"):
		return fmt.Errorf("tokenURL %q must have no fragment (RFC 6749, 3.2)", c.TokenURL)
	}
	return nil
}

func (c *Config) checkAuth() error {
	switch c.ClientAuth {
	case ClientSecretBasic, ClientSecretPost:
		if c.ClientID == "" || c.ClientSecret == nil {
			return fmt.Errorf("clientAuth %q needs clientID and clientSecret", c.ClientAuth)
		}
		if c.AssertionAudience != "" {
			return fmt.Errorf("assertionAudience would be ignored with clientAuth %q: remove it", c.ClientAuth)
		}
	case JWTSPIFFE:
		if c.ClientSecret != nil {
			return errors.New("clientSecret would be ignored with clientAuth \"jwt-spiffe\": remove it")
		}
		if strings.ContainsAny(c.AssertionAudience, " \t,") {
			return fmt.Errorf("assertionAudience %q must be exactly one audience", c.AssertionAudience)
		}
	default:
		return fmt.Errorf("clientAuth %q must be one of %s, %s, %s", c.ClientAuth, ClientSecretBasic, ClientSecretPost, JWTSPIFFE)
	}
	return nil
}

func (c *Config) checkParams() error {
	for _, s := range c.Scopes {
		if s == "" || strings.ContainsFunc(s, notScope) {
			return fmt.Errorf("scope %q must be a scope-token of RFC 6749, 3.3: no blanks, quotes or backslashes", s)
		}
	}
	if c.Resource != "" {
		u, err := url.Parse(c.Resource)
		if err != nil || !u.IsAbs() || u.Fragment != "" {
			return fmt.Errorf("resource %q must be an absolute URI without fragment (RFC 8707)", c.Resource)
		}
	}
	return nil
}

func notScope(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' }

// Fetch implements credential.Provider. Refused: the server said no to this client or
// scope. Unreachable: network, time-out, 429, 5xx. NotMinted: the answer is not one of
// RFC 6749. Unconfigured: jwt-spiffe without a caller whose SVID egret holds.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	req, err := p.request(ctx, s)
	if err != nil {
		return credential.Token{}, err
	}
	sent := time.Now()
	resp, err := p.client.Do(req)
	if err != nil {
		return credential.Token{}, unreachable(0, "token endpoint %s: %w", req.URL.Host, wireerr.Wrap(unURL(err)))
	}
	defer resp.Body.Close()
	p.checkClock(resp.Header.Get("Date"), sent)
	tok, err := read(resp)
	if err != nil {
		return credential.Token{}, within("token endpoint "+req.URL.Host, err)
	}
	return tok, nil
}

// within says where a typed error arose, and keeps it the outermost.
func within(where string, err error) error {
	if e, ok := errors.AsType[*credential.Error](err); ok {
		return &credential.Error{Kind: e.Kind, RetryAfter: e.RetryAfter, Err: fmt.Errorf("%s: %w", where, e.Err)}
	}
	return unreachable(0, "%s: %w", where, err)
}

// unURL drops the *url.Error, whose text holds the URL with its query.
func unURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// checkClock warns about a clock that differs: an assertion or certificate would be
// refused for it. Lifetimes are relative and do not depend on it.
func (p *Provider) checkClock(date string, sent time.Time) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	if d := t.Sub(sent).Round(time.Second); d.Abs() > time.Minute {
		p.log.Warn("clock differs from that of the token endpoint", "url", hostOf(p.cfg.TokenURL), "ahead", d.String())
	}
}

func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

// Close ends idle connections.
func (p *Provider) Close() error {
	p.client.CloseIdleConnections()
	return nil
}
