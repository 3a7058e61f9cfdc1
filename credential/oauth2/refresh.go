// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/rotation"
	"github.com/egret-proxy/egret/internal/secret"
)

// refresh is a rotation.Asker (RFC 6749, 6).
func (p *Provider) refresh(ctx context.Context, token secret.Secret) (rotation.Grant, error) {
	b, err := p.prove(ctx, nil)
	if err != nil {
		return rotation.Grant{}, rotation.Untouched(err)
	}
	form := url.Values{"grant_type": {RefreshToken}, "refresh_token": {token.Reveal()}}
	setIf(form, "scope", strings.Join(p.cfg.Scopes, " "))
	setIf(form, "resource", p.cfg.Resource)
	watched, sent := rotation.Watch(ctx)
	a, err := p.post(watched, p.cfg.TokenURL, form, b)
	switch {
	case err != nil && !sent():
		return rotation.Grant{}, rotation.Untouched(err)
	case err != nil:
		return rotation.Grant{}, err
	}
	g, err := p.granted(a)
	if err != nil {
		err = issuer.Within("token endpoint "+hostOf(p.cfg.TokenURL), err)
	}
	return g, err
}

func (p *Provider) granted(a *issuer.Answer) (rotation.Grant, error) {
	tok, err := p.read(a)
	if err == nil {
		o, _ := a.Object() // read has read it
		return rotation.Grant{Access: tok.Values["token"], Refresh: secret.New(o.Text("refresh_token")), Lifetime: tok.Lifetime}, nil
	}
	o, _ := a.Object() // no object has no error
	switch code := o.Text("error"); {
	case a.Status == http.StatusOK: // spent, and what it gave cannot be read
		return rotation.Grant{}, err
	case code == "invalid_grant":
		return rotation.Grant{}, rotation.Spent(err)
	case a.Status >= 300 && a.Status < 500, rotation.Busy(a.Status):
		return rotation.Grant{}, rotation.Untouched(err)
	}
	return rotation.Grant{}, err
}
