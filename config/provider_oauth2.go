// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer/rotation"
	"github.com/egret-proxy/egret/credential/oauth2"
)

func (b *builder) oauth2(p *api.OAuth2Provider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg := oauth2.Config{
		Grant: p.Grant, TokenURL: p.TokenURL, RevocationURL: p.RevocationURL,
		ClientID: p.ClientID, ClientAuth: p.ClientAuth, AssertionAudience: p.AssertionAudience,
		SubjectAudience: p.SubjectAudience, RequestedTokenType: p.RequestedTokenType,
		Scopes: p.Scopes, Audience: p.Audience, Resource: p.Resource,
		ClientKey: oauth2.ClientKey{ID: p.KeyID, Algorithm: p.Algorithm}, Issuer: to,
	}
	if p.PrivateKey != nil {
		cfg.ClientKey.Key = b.pem(p.PrivateKey)
	}
	if p.StateFile != "" {
		cfg.State = b.rotation(p.StateFile)
		cfg.State.Grace, _ = time.ParseDuration(p.RefreshGrace) // checked at load; zero where absent
	}
	if p.ClientSecret != nil {
		key, err := b.stored(p.ClientSecret)
		if err != nil {
			return nil, err
		}
		cfg.ClientSecret = key.Value
	}
	v, err := oauth2.New(cfg)
	if err != nil {
		return nil, err // not v, which would be a provider that is a nil pointer
	}
	return v, nil
}

// rotation keeps a refresh token in a file that replicas share, with its lock beside it.
func (b *builder) rotation(path string) oauth2.Rotation {
	return oauth2.Rotation{
		Store: rotation.NewFile(path), Lease: rotation.NewLock(path + ".lock"), Timing: rotation.Timing{Life: b.c.TTL},
	}
}
