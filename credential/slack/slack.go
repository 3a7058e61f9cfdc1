// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package slack is the provider of Slack's rotating tokens: an access token of 12 hours,
// got with a refresh token that works once. Rotation cannot be switched off again, and
// who loses the refresh token has to install the app anew; see package rotation for how
// it is not lost. Slack tells its errors inside of answers with status 200.
package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/rotation"
	"github.com/egret-proxy/egret/internal/secret"
)

// BaseURL is that of Slack's Web API; that of GovSlack is https://slack-gov.com/api.
const BaseURL = "https://slack.com/api"

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	BaseURL      string // empty: BaseURL
	ClientID     string
	ClientSecret func() (secret.Secret, error)
	Store        rotation.Store // of the refresh token
	Lease        rotation.Lease
	Timing       rotation.Timing
	Issuer       issuer.Options
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	url    string
	host   string
	client *issuer.Client
	rotor  *rotation.Rotor
}

// New validates c. It does no I/O.
func New(c Config) (*Provider, error) {
	if c.BaseURL == "" {
		c.BaseURL = BaseURL
	}
	u, err := url.Parse(c.BaseURL)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(c.BaseURL, "?#"):
		return nil, errors.New("slack: baseURL must be https with a host, without user, query and fragment")
	case c.ClientID == "" || c.ClientSecret == nil:
		return nil, errors.New("slack: needs clientID and clientSecret")
	}
	p := &Provider{cfg: c, url: strings.TrimRight(c.BaseURL, "/") + "/oauth.v2.access", host: u.Host, client: issuer.New(c.Issuer)}
	p.rotor, err = rotation.New(rotation.Options{Store: c.Store, Lease: c.Lease, Ask: p.refresh, Timing: c.Timing, Logger: c.Issuer.Logger})
	if err != nil {
		return nil, fmt.Errorf("slack: %w", err)
	}
	return p, nil
}

// Fetch implements credential.Provider: "token" is the access token of the state, rotated
// when it is time. It is one for all callers. Errors are those of rotation.Rotor.Token.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, _ credential.Subject) (credential.Token, error) {
	return p.rotor.Token(ctx)
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// refresh is a rotation.Asker.
func (p *Provider) refresh(ctx context.Context, token secret.Secret) (rotation.Grant, error) {
	key, err := p.cfg.ClientSecret()
	if err == nil && key.IsZero() {
		err = issuer.NotMinted("it is empty")
	}
	if err != nil {
		return rotation.Grant{}, rotation.Untouched(issuer.Within("client secret", err))
	}
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {token.Reveal()},
		"client_id": {p.cfg.ClientID}, "client_secret": {key.Reveal()},
	}
	watched, sent := rotation.Watch(ctx)
	a, err := p.client.PostForm(watched, p.url, form, nil)
	switch {
	case err != nil && !sent():
		return rotation.Grant{}, rotation.Untouched(err)
	case err != nil:
		return rotation.Grant{}, err
	}
	g, err := read(a)
	if err != nil {
		return rotation.Grant{}, issuer.Within(p.host, err)
	}
	return g, nil
}

// read turns an answer into a pair or a typed error, which quotes only known codes.
func read(a *issuer.Answer) (rotation.Grant, error) {
	if a.Status != http.StatusOK {
		err := a.Refusal("")
		if rotation.Busy(a.Status) || a.Status >= 300 && a.Status < 500 {
			return rotation.Grant{}, rotation.Untouched(err)
		}
		return rotation.Grant{}, err
	}
	o, err := a.Object()
	if err != nil {
		return rotation.Grant{}, err
	}
	if !o.Bool("ok") {
		return rotation.Grant{}, refusal(a, o.Text("error"))
	}
	g := rotation.Grant{Access: secret.New(o.Text("access_token")), Refresh: secret.New(o.Text("refresh_token")), Lifetime: a.LessAge(o.Seconds("expires_in"))}
	switch kind := o.Text("token_type"); {
	case g.Access.IsZero() || g.Refresh.IsZero():
		return rotation.Grant{}, issuer.NotMinted("answer must have access_token and refresh_token")
	case kind != "bot" && kind != "user":
		return rotation.Grant{}, issuer.NotMinted("token_type must be bot or user")
	}
	return g, nil
}

// refusal reads {"ok":false,"error":code}.
func refusal(a *issuer.Answer, code string) error {
	e := &credential.Error{Kind: credential.Refused, RetryAfter: a.RetryAfter(), Err: fmt.Errorf("ok is false, %s", code)}
	switch code {
	case "invalid_refresh_token", "token_revoked", "token_expired", "invalid_grant":
		return rotation.Spent(e)
	case "bad_client_secret", "invalid_client_id", "invalid_client", "invalid_auth", "not_authed", "account_inactive",
		"access_denied", "accesslimited", "invalid_arguments", "invalid_grant_type", "bad_redirect_uri", "oauth_authorization_url_mismatch",
		"token_rotation_not_enabled", "team_access_not_granted", "ekm_access_denied", "org_login_required":
		return rotation.Untouched(e)
	case "ratelimited", "service_unavailable", "team_added_to_org":
		e.Kind = credential.Unreachable
		return rotation.Untouched(e)
	case "internal_error", "fatal_error", "request_timeout":
		e.Kind = credential.Unreachable
		return e
	}
	e.Err = errors.New("ok is false, without a known error code")
	return e
}
