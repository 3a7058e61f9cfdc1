// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"time"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/salesforce"
	"github.com/egret-proxy/egret/credential/snowflake"
)

func (b *builder) salesforce(p *api.SalesforceProvider) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	v, err := salesforce.New(salesforce.Config{
		LoginURL: p.LoginURL, Audience: p.Audience, ClientID: p.ClientID, Username: p.Username,
		Key: b.pem(p.PrivateKey), Hosts: p.Hosts, Issuer: to,
	})
	if err != nil {
		return nil, err // not v, which would be a provider that is a nil pointer
	}
	return v, nil
}

func (b *builder) snowflake(p *api.SnowflakeProvider) (credential.Provider, error) {
	life, _ := time.ParseDuration(p.Lifetime) // checked at load; zero where absent
	v, err := snowflake.New(snowflake.Config{Account: p.Account, User: p.User, Key: b.pem(p.PrivateKey), Life: life})
	if err != nil {
		return nil, err
	}
	return v, nil
}
