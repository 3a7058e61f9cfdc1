// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package google is the provider that exchanges the workload's own JWT-SVID for a token of
// Google Cloud: at the Security Token Service for a federated access token (workload
// identity federation), and, where a service account is named, at the IAM Credentials API
// for an access or ID token of that account. The URLs are made here and never read from a
// credential file, so that none can point them elsewhere. It caches nothing and retries
// nothing; the Cache of package credential does.
package google

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/svid"
)

// Hosts of the two services.
const (
	stsURL         = "https://sts.googleapis.com/v1/token"
	credentialsURL = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/"
)

// CloudPlatform is the scope of all of Google Cloud; what the account may do is decided
// by IAM.
const CloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// MaxSubject is how many bytes google.subject may have: an attribute mapping that gives a
// longer one is refused by the Security Token Service.
const MaxSubject = 127

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10).
type Config struct {
	WorkloadProvider  string // projects/N/locations/global/workloadIdentityPools/P/providers/X
	AssertionAudience string // of the JWT-SVID; empty: https://iam.googleapis.com/ and WorkloadProvider
	MappedSubject     bool   // the pool makes google.subject of something shorter than sub
	Scopes            []string
	ServiceAccount    string        // empty: the federated token itself is used
	Delegates         []string      // the accounts between, first to last
	Lifetime          time.Duration // of the account's access token; zero: Google's own, an hour
	IDTokenAudience   string        // not empty: an ID token of the account for this audience
	IncludeEmail      bool          // in the ID token
	Reach             issuer.Options
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	client *issuer.Client
}

// New validates c. It asks nobody.
func New(c Config) (*Provider, error) {
	if !strings.HasPrefix(c.WorkloadProvider, "projects/") || strings.ContainsAny(c.WorkloadProvider, "?#% ") {
		return nil, fmt.Errorf("google: workload identity provider %q must be projects/…/providers/…", c.WorkloadProvider)
	}
	if c.ServiceAccount == "" && (len(c.Delegates) > 0 || c.Lifetime != 0 || c.IDTokenAudience != "") {
		return nil, errors.New("google: delegates, lifetime and an ID token need a service account")
	}
	if c.AssertionAudience == "" {
		c.AssertionAudience = "https://iam.googleapis.com/" + c.WorkloadProvider
	}
	if len(c.Scopes) == 0 {
		c.Scopes = []string{CloudPlatform}
	}
	return &Provider{cfg: c, client: issuer.New(c.Reach)}, nil
}

// Close ends idle connections.
func (p *Provider) Close() error { return p.client.Close() }

// Fetch implements credential.Provider. Refused: Google said no, or would say no to a
// subject that is too long. Its other errors are those of svid.Fetch and issuer.Client.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	id, err := svid.Fetch(ctx, s, p.cfg.AssertionAudience)
	if err != nil {
		return credential.Token{}, err
	}
	if n := len(id.Subject); n > MaxSubject && !p.cfg.MappedSubject {
		return credential.Token{}, &credential.Error{Kind: credential.Refused, Err: fmt.Errorf(
			"the SPIFFE ID has %d bytes, and google.subject at most %d: use a shorter one, or map google.subject to a part of it and set mappedSubject", n, MaxSubject)}
	}
	federated, err := p.federate(ctx, id)
	if err != nil {
		return credential.Token{}, issuer.Within("token exchange", err)
	}
	if p.cfg.ServiceAccount == "" {
		return federated, nil
	}
	token, err := p.impersonate(ctx, federated)
	if err != nil {
		return credential.Token{}, issuer.Within("service account", err)
	}
	return token, nil
}

// federate exchanges the JWT-SVID for a token of the workload identity pool.
func (p *Provider) federate(ctx context.Context, id svid.Token) (credential.Token, error) {
	scopes := p.cfg.Scopes
	if p.cfg.ServiceAccount != "" { // it serves for one call; the scopes are those of the account's token
		scopes = []string{CloudPlatform}
	}
	a, err := p.client.PostForm(ctx, stsURL, url.Values{
		"grant_type":           {exchange.GrantExchange},
		"audience":             {"//iam.googleapis.com/" + p.cfg.WorkloadProvider},
		"scope":                {strings.Join(scopes, " ")},
		"requested_token_type": {exchange.TypeAccess},
		"subject_token_type":   {exchange.TypeJWT},
		"subject_token":        {id.Value.Reveal()},
	}, nil)
	if err != nil {
		return credential.Token{}, err
	}
	return exchange.Token(a)
}
