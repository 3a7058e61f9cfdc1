// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"time"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/aws"
	"github.com/egret-proxy/egret/policy"
)

func (b *builder) aws(p *api.AWSProvider) (credential.Provider, error) {
	switch {
	case p.AssumeRoleWithWebIdentity != nil:
		return b.awsWebIdentity(p.AssumeRoleWithWebIdentity)
	case p.RolesAnywhere != nil:
		return b.awsRolesAnywhere(p.RolesAnywhere)
	case p.Static != nil:
		return b.awsStatic(p.Static)
	}
	return nil, errors.New("its provider aws has no member")
}

func (b *builder) awsWebIdentity(p *api.AWSWebIdentity) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	d, err := optionalDuration(p.Duration)
	if err != nil {
		return nil, err
	}
	provider, err := aws.NewWebIdentity(aws.WebIdentityConfig{
		RoleARN: p.RoleARN, Region: p.Region, URL: p.STSURL, SessionName: p.SessionName, Duration: d,
		Policy: p.Policy, PolicyARNs: p.PolicyARNs, Audience: p.Audience, Issuer: to,
	})
	if err != nil {
		return nil, err // not provider, which would be one that is a nil pointer
	}
	return provider, nil
}

func (b *builder) awsRolesAnywhere(p *api.AWSRolesAnywhere) (credential.Provider, error) {
	to, err := b.issuer(p.Endpoint)
	if err != nil {
		return nil, err
	}
	d, err := optionalDuration(p.Duration)
	if err != nil {
		return nil, err
	}
	provider, err := aws.NewRolesAnywhere(aws.RolesAnywhereConfig{
		TrustAnchorARN: p.TrustAnchorARN, ProfileARN: p.ProfileARN, RoleARN: p.RoleARN, Region: p.Region, URL: p.URL,
		Duration: d, SessionName: p.SessionName, Issuer: to,
	})
	if err != nil {
		return nil, err
	}
	return provider, nil
}

// awsStatic makes a provider that owns its secrets: it tells when they change.
func (b *builder) awsStatic(p *api.AWSStatic) (credential.Provider, error) {
	var cfg aws.StaticConfig
	var opened []aws.Stored
	for _, x := range []struct {
		from *api.SecretSource
		to   *aws.Stored
	}{{&p.AccessKeyID, &cfg.AccessKeyID}, {&p.SecretAccessKey, &cfg.SecretAccessKey}, {p.SessionToken, &cfg.SessionToken}} {
		if x.from == nil {
			continue
		}
		s, err := b.opt.stored(x.from, "")
		if err != nil {
			for _, o := range opened {
				_ = o.Close() // nothing has used it yet
			}
			return nil, err
		}
		*x.to = s
		opened = append(opened, s)
	}
	return aws.NewStatic(cfg)
}

func optionalDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	return time.ParseDuration(s)
}

// signer makes what signs requests; nil where the entry does not.
func signer(in *api.Inject) (credential.Signer, error) {
	if in.SigV4 == nil {
		return nil, nil //nolint:nilnil // most entries sign nothing
	}
	limit, err := in.SigV4.BodyLimit()
	if err != nil {
		return nil, err
	}
	cfg := aws.SignerConfig{Service: in.SigV4.Service, Region: in.SigV4.Region, MaxBody: limit}
	for _, h := range in.SigV4.Hosts {
		name, err := policy.ParseHostPattern(h.Host)
		if err != nil {
			return nil, err
		}
		cfg.Hosts = append(cfg.Hosts, aws.HostScope{Host: name, Service: h.Service, Region: h.Region})
	}
	s, err := aws.NewSigner(cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}
