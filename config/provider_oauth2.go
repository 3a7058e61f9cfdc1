// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/oauth2"
)

func (b *builder) oauth2(p *api.OAuth2Provider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg := oauth2.Config{
		TokenURL: p.TokenURL, ClientID: p.ClientID, ClientAuth: p.ClientAuth, AssertionAudience: p.AssertionAudience,
		Scopes: p.Scopes, Audience: p.Audience, Resource: p.Resource,
		Roots: to.Roots, Dial: to.Dial, Proxy: to.Proxy, Logger: to.Logger,
	}
	if p.ClientSecret != nil {
		key, err := b.stored(p.ClientSecret)
		if err != nil {
			return nil, err
		}
		cfg.ClientSecret = key.Value
	}
	return oauth2.New(cfg)
}
