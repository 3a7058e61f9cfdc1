// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
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
	if s == nil {
		return &credential.Error{Kind: credential.Unconfigured, Err: errors.New("jwt-spiffe needs the caller's identity, and there is none")}
	}
	svid, _, err := s.JWTSVID(ctx, p.cfg.AssertionAudience)
	if err != nil {
		return unreachable(0, "JWT-SVID for audience %q: %w", p.cfg.AssertionAudience, err)
	}
	if err := soleAudience(svid, p.cfg.AssertionAudience); err != nil {
		return &credential.Error{Kind: credential.NotMinted, Err: fmt.Errorf("JWT-SVID: %w", err)}
	}
	setIf(form, "client_id", p.cfg.ClientID)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", svid.Reveal())
	return nil
}

// soleAudience makes sure that an SVID for several relying parties is never handed to
// one of them, which could use it at the others. The server checks the signature.
func soleAudience(svid secret.Secret, want string) error {
	_, rest, _ := strings.Cut(svid.Reveal(), ".")
	payload, _, ok := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if !ok || err != nil {
		return errors.New("is not a JWT")
	}
	var claims struct {
		Aud json.RawMessage `json:"aud"`
	}
	if json.Unmarshal(raw, &claims) != nil {
		return errors.New("has no readable claims")
	}
	var one string
	var many []string
	if json.Unmarshal(claims.Aud, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(claims.Aud, &many) != nil {
		return errors.New("has no audience")
	}
	if !slices.Equal(many, []string{want}) {
		return fmt.Errorf("must be for audience %q alone", want)
	}
	return nil
}
