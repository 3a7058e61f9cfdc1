// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"regexp"
	"time"
)

// GoogleProvider exchanges the workload's JWT-SVID for a token of Google Cloud by workload identity federation. Preview.
type GoogleProvider struct {
	// WorkloadIdentityProvider is projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER. Required.
	WorkloadIdentityProvider string `json:"workloadIdentityProvider"`
	// AssertionAudience is the audience of the JWT-SVID, one that the provider allows. Default: its own, https://iam.googleapis.com/projects/…
	AssertionAudience string `json:"assertionAudience,omitempty"`
	// MappedSubject says that the provider maps google.subject to a part of the SPIFFE ID, so that IDs of more than 127 bytes are not refused.
	MappedSubject bool `json:"mappedSubject,omitempty"`
	// ServiceAccount is the account to act as: its mail address or number. Default: the federated identity itself, which not all of Google's APIs accept.
	ServiceAccount string `json:"serviceAccount,omitempty"`
	// Delegates are the accounts between the federated identity and serviceAccount, first to last. Default: none.
	Delegates []string `json:"delegates,omitempty"`
	// Lifetime of the account's access token, 1m to 12h; more than 1h needs an organization policy. Default: 1h.
	Lifetime string `json:"lifetime,omitempty"`
	// Scopes of the access token. Default: https://www.googleapis.com/auth/cloud-platform.
	Scopes []string `json:"scopes,omitempty"`
	// IDToken asks for an ID token of serviceAccount instead of an access token (Cloud Run, IAP).
	IDToken *GoogleIDToken `json:"idToken,omitempty"`
	// Endpoint is how sts.googleapis.com and iamcredentials.googleapis.com are reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

// GoogleIDToken says what an ID token is for.
type GoogleIDToken struct {
	// Audience is the service's own: its URL, or the client ID of IAP. Required.
	Audience string `json:"audience"`
	// IncludeEmail puts the account's address into the token.
	IncludeEmail bool `json:"includeEmail,omitempty"`
}

var (
	googleProvider = regexp.MustCompile(`^projects/[0-9]+/locations/global/workloadIdentityPools/[a-z][a-z0-9-]{2,30}[a-z0-9]/providers/[a-z][a-z0-9-]{2,30}[a-z0-9]$`)
	googleAccount  = regexp.MustCompile(`^([a-z0-9][a-z0-9.-]*@[a-z0-9][a-z0-9.-]+|[0-9]{6,30})$`)
)

const googleAudience = "https://iam.googleapis.com/"

func (p *GoogleProvider) check(f *faults, path string) {
	if !googleProvider.MatchString(p.WorkloadIdentityProvider) {
		f.add(Fault{path + ".workloadIdentityProvider", p.WorkloadIdentityProvider,
			"must be projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER", "the project's number, not its ID"})
	}
	f.oneAudience(path+".assertionAudience", p.AssertionAudience)
	f.scopes(path+".scopes", p.Scopes)
	f.duration(path+".lifetime", p.Lifetime, span{time.Minute, 12 * time.Hour})
	f.googleAccounts(path, p)
	if t := p.IDToken; t != nil {
		f.line(path+".idToken.audience", t.Audience)
		f.absent(path+".scopes", len(p.Scopes) > 0, "with idToken")
		f.absent(path+".lifetime", p.Lifetime != "", "with idToken")
	}
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) googleAccounts(path string, p *GoogleProvider) {
	const rule = "must be the mail address or number of a service account"
	for i, d := range p.Delegates {
		if !googleAccount.MatchString(d) {
			f.bad(at(path+".delegates", i), d, rule)
		}
	}
	f.distinct(path+".delegates", p.Delegates)
	if p.ServiceAccount == "" {
		f.absent(path+".delegates", len(p.Delegates) > 0, "without serviceAccount")
		f.absent(path+".lifetime", p.Lifetime != "", "without serviceAccount")
		if p.IDToken != nil {
			f.bad(path+".serviceAccount", "", "is required with idToken")
		}
		return
	}
	if !googleAccount.MatchString(p.ServiceAccount) {
		f.bad(path+".serviceAccount", p.ServiceAccount, rule)
	}
}

func (p *GoogleProvider) traits() traits {
	t := traits{usesSVID: true, preview: true, scopes: p.Scopes, assertion: p.AssertionAudience}
	if t.assertion == "" {
		t.assertion = googleAudience + p.WorkloadIdentityProvider
	}
	if p.IDToken != nil {
		t.audience = p.IDToken.Audience
	}
	return t
}
