// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/anthropic"
	"github.com/egret-proxy/egret/credential/azure"
	"github.com/egret-proxy/egret/credential/jwt"
	"github.com/egret-proxy/egret/credential/openai"
)

// made passes on what a constructor gives, and nil, not a provider that is a nil pointer,
// with an error.
func made[P credential.Provider](p P, err error) (credential.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (b *builder) jwt(p *api.JWTProvider) (credential.Provider, error) {
	return made(jwt.New(jwt.Config{Audience: p.Audience, SingleUse: p.SingleUse}))
}

func (b *builder) azure(p *api.AzureProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	return made(azure.New(azure.Config{
		Authority: p.Authority, Tenant: p.Tenant, ClientID: p.ClientID, Scope: p.Scope, AssertionAudience: p.AssertionAudience, Reach: to,
	}))
}

func (b *builder) anthropic(p *api.AnthropicProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	return made(anthropic.New(anthropic.Config{
		FederationRule: p.FederationRule, Organization: p.Organization, ServiceAccount: p.ServiceAccount, Workspace: p.Workspace,
		AssertionAudience: p.AssertionAudience, Reach: to,
	}))
}

func (b *builder) openai(p *api.OpenAIProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	return made(openai.New(openai.Config{
		IdentityProvider: p.IdentityProvider, ServiceAccount: p.ServiceAccount, AssertionAudience: p.AssertionAudience, Reach: to,
	}))
}
