// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/svid"
)

func (p *Provider) request(ctx context.Context, s credential.Subject) (*http.Request, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	setIf(form, "scope", strings.Join(p.cfg.Scopes, " "))
	setIf(form, "audience", p.cfg.Audience)
	setIf(form, "resource", p.cfg.Resource)
	basic, err := p.authenticate(ctx, form, s)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.cfg.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, &credential.Error{Kind: credential.Unconfigured, Err: errors.New("token URL cannot be asked")}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "egret")
	if basic != "" {
		req.Header.Set("Authorization", basic)
	}
	return req, nil
}

func setIf(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

// authenticate adds the client's proof to the form, or returns it as a header.
func (p *Provider) authenticate(ctx context.Context, form url.Values, s credential.Subject) (basic string, err error) {
	if p.cfg.ClientAuth == JWTSPIFFE {
		return "", p.assert(ctx, form, s)
	}
	sec, err := p.cfg.ClientSecret()
	if err != nil {
		return "", within("client secret", err)
	}
	if sec.IsZero() {
		return "", &credential.Error{Kind: credential.NotMinted, Err: errors.New("client secret is empty")}
	}
	if p.cfg.ClientAuth == ClientSecretPost {
		form.Set("client_id", p.cfg.ClientID)
		form.Set("client_secret", sec.Reveal())
		return "", nil
	}
	// RFC 6749, 2.3.1: both are form-encoded first; base64 alone breaks on ":" and "%".
	pair := url.QueryEscape(p.cfg.ClientID) + ":" + url.QueryEscape(sec.Reveal())
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)), nil
}

// assert adds the caller's own JWT-SVID, fetched for this server alone (MUST I10).
func (p *Provider) assert(ctx context.Context, form url.Values, s credential.Subject) error {
	id, err := svid.Fetch(ctx, s, p.cfg.AssertionAudience)
	if err != nil {
		return err
	}
	setIf(form, "client_id", p.cfg.ClientID)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", id.Value.Reveal())
	return nil
}
