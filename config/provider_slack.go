// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/slack"
)

func (b *builder) slack(p *api.SlackProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	key, err := b.stored(p.ClientSecret)
	if err != nil {
		return nil, err
	}
	state := b.rotation(p.StateFile)
	v, err := slack.New(slack.Config{
		BaseURL: p.BaseURL, ClientID: p.ClientID, ClientSecret: key.Value,
		Store: state.Store, Lease: state.Lease, Timing: state.Timing, Issuer: to,
	})
	if err != nil {
		return nil, err // not v, which would be a provider that is a nil pointer
	}
	return v, nil
}
