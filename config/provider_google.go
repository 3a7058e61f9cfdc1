// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/google"
)

func (b *builder) google(p *api.GoogleProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg := google.Config{
		WorkloadProvider: p.WorkloadIdentityProvider, AssertionAudience: p.AssertionAudience, MappedSubject: p.MappedSubject,
		Scopes: p.Scopes, ServiceAccount: p.ServiceAccount, Delegates: p.Delegates, Reach: to,
	}
	if p.Lifetime != "" {
		if cfg.Lifetime, err = time.ParseDuration(p.Lifetime); err != nil {
			return nil, err
		}
	}
	if p.IDToken != nil {
		cfg.IDTokenAudience, cfg.IncludeEmail = p.IDToken.Audience, p.IDToken.IncludeEmail
	}
	return made(google.New(cfg))
}
