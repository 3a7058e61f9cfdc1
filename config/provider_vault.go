// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/vault"
)

func (b *builder) vault(p *api.VaultProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg := vault.Config{Address: p.Address, Namespace: p.Namespace, ClientToken: p.ClientToken != nil, TTL: b.c.TTL, Issuer: to}
	if l := p.Login; l != nil {
		cfg.Login = vault.Login{Method: l.Method, Mount: l.Mount, Role: l.Role, Audience: l.Audience}
	}
	switch {
	case p.KV != nil:
		cfg.KV, cfg.Keys = &vault.KV{Mount: p.KV.Mount, Path: p.KV.Path, Version: p.KV.Version}, p.KV.Keys
	case p.Dynamic != nil:
		cfg.Dynamic, cfg.Keys = &vault.Dynamic{Path: p.Dynamic.Path, Parameters: p.Dynamic.Parameters}, p.Dynamic.Keys
	case p.Unwrap != nil:
		token, err := b.stored(p.Unwrap.Token)
		if err != nil {
			return nil, err
		}
		cfg.Unwrap = &vault.Unwrap{Token: token.Value, CreationPath: p.Unwrap.CreationPath, State: p.Unwrap.State}
		cfg.Keys = p.Unwrap.Keys
	}
	v, err := vault.New(cfg)
	if err != nil {
		return nil, err // not v, which would be a provider that is a nil pointer
	}
	return v, nil
}
