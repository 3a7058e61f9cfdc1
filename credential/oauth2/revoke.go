// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"context"
	"net/http"
	"net/url"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// revocation ends a token (RFC 7009). It keeps the caller's identity as long as the token
// lives, since the client must prove itself again.
func (p *Provider) revocation(token secret.Secret, s credential.Subject) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := p.revoke(ctx, token, s); err != nil {
			return issuer.Within("revocation endpoint "+hostOf(p.cfg.RevocationURL), err)
		}
		return nil
	}
}

func (p *Provider) revoke(ctx context.Context, token secret.Secret, s credential.Subject) error {
	b, err := p.prove(ctx, s)
	if err != nil {
		return err
	}
	form := url.Values{"token": {token.Reveal()}, "token_type_hint": {"access_token"}}
	a, err := p.post(ctx, p.cfg.RevocationURL, form, b)
	switch {
	case err != nil:
		return err
	case a.Status != http.StatusOK: // also for a token that it does not know (RFC 7009, 2.2)
		return refusal(a)
	}
	return nil
}
