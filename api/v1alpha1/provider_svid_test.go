// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"testing"
)

// membersAtFault checks a provider by itself.
func membersAtFault(p providerSpec) string {
	var f faults
	p.check(&f, "p")
	var paths []string
	for _, x := range f {
		paths = append(paths, x.Path)
	}
	return strings.Join(paths, " ")
}

const (
	pool    = "projects/123456789012/locations/global/workloadIdentityPools/spire/providers/acme"
	aUUID   = "11111111-2222-3333-4444-555555555555"
	graph   = "https://graph.microsoft.com/.default"
	account = "a@acme.iam.gserviceaccount.com"
)

func TestGoogleProviderIsChecked(t *testing.T) {
	for want, p := range map[string]GoogleProvider{
		"":                                {WorkloadIdentityProvider: pool},
		"p.workloadIdentityProvider":      {WorkloadIdentityProvider: pool + "/"},
		"p.assertionAudience":             {WorkloadIdentityProvider: pool, AssertionAudience: "a, b"},
		"p.scopes[0]":                     {WorkloadIdentityProvider: pool, Scopes: []string{"a b"}},
		"p.scopes[1]":                     {WorkloadIdentityProvider: pool, Scopes: []string{"a", "a"}},
		"p.lifetime":                      {WorkloadIdentityProvider: pool, ServiceAccount: account, Lifetime: "59s"},
		"p.serviceAccount":                {WorkloadIdentityProvider: pool, ServiceAccount: "a/b@acme.example"},
		"p.delegates[0]":                  {WorkloadIdentityProvider: pool, ServiceAccount: account, Delegates: []string{"x"}},
		"p.delegates[1]":                  {WorkloadIdentityProvider: pool, ServiceAccount: account, Delegates: []string{account, account}},
		"p.delegates p.lifetime":          {WorkloadIdentityProvider: pool, Delegates: []string{account}, Lifetime: "1h"},
		"p.idToken.audience":              {WorkloadIdentityProvider: pool, ServiceAccount: "123456789", IDToken: &GoogleIDToken{}},
		"p.lifetime p.serviceAccount":     {WorkloadIdentityProvider: pool, Lifetime: "1h", IDToken: &GoogleIDToken{Audience: "x"}},
		"p.endpoint.dial":                 {WorkloadIdentityProvider: pool, Endpoint: &Endpoint{Dial: "x:http"}},
		"p.workloadIdentityProvider ":     {WorkloadIdentityProvider: "projects/1/locations/eu/workloadIdentityPools/spire/providers/acme"},
		"p.workloadIdentityProvider  ":    {WorkloadIdentityProvider: "//iam.googleapis.com/" + pool},
		"p.workloadIdentityProvider     ": {WorkloadIdentityProvider: pool + "\n"},
	} {
		if got := membersAtFault(&p); !sameFaults(got, strings.TrimSpace(want)) {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// sameFaults compares without repetitions: one member may be against several rules.
func sameFaults(got, want string) bool {
	for _, path := range strings.Fields(got) {
		if !strings.Contains(" "+want+" ", " "+path+" ") {
			return false
		}
	}
	return got != "" == (want != "")
}

func TestAzureProviderIsChecked(t *testing.T) {
	good := AzureProvider{Tenant: "acme.example", ClientID: aUUID, Scope: graph}
	for _, authority := range []string{"", "public", "usgovernment", "china", "https://login.stack.acme.example"} {
		p := good
		if p.Authority = authority; membersAtFault(&p) != "" {
			t.Errorf("%q: %s", authority, membersAtFault(&p))
		}
	}
	for _, authority := range []string{"germany", "Public", "http://x.example", "https://x.example/", "https://u:p@x.example", "https://x.example?y", "https://", "//x.example", "https://X.example#"} {
		p := good
		if p.Authority = authority; membersAtFault(&p) != "p.authority" {
			t.Errorf("%q is taken: %q", authority, membersAtFault(&p))
		}
	}
	for want, change := range map[string]func(*AzureProvider){
		"p.tenant":            func(p *AzureProvider) { p.Tenant = "acme.example/x" },
		"p.tenant ":           func(p *AzureProvider) { p.Tenant = "organizations" },
		"p.tenant  ":          func(p *AzureProvider) { p.Tenant = "" },
		"p.clientID":          func(p *AzureProvider) { p.ClientID = aUUID[1:] },
		"p.clientID ":         func(p *AzureProvider) { p.ClientID = strings.Replace(aUUID, "1", "g", 1) },
		"p.scope":             func(p *AzureProvider) { p.Scope = graph + " " + graph },
		"p.scope ":            func(p *AzureProvider) { p.Scope = "/.default" },
		"p.assertionAudience": func(p *AzureProvider) { p.AssertionAudience = "a b" },
	} {
		p := good
		change(&p)
		if got := membersAtFault(&p); got != strings.TrimSpace(want) {
			t.Errorf("%+v: %q", p, got)
		}
	}
}

func TestAnthropicAndOpenAIProvidersAreChecked(t *testing.T) {
	good := AnthropicProvider{FederationRule: "fdrl_a", Organization: aUUID, ServiceAccount: "svac_a", Workspace: "default"}
	if got := membersAtFault(&good); got != "" {
		t.Error(got)
	}
	bad := AnthropicProvider{FederationRule: "fdrl_", Organization: "x", ServiceAccount: "svac_a/../b", Workspace: "wrkspc_ä", AssertionAudience: ","}
	if got := membersAtFault(&bad); got != "p.federationRule p.serviceAccount p.workspace p.organization p.assertionAudience" {
		t.Error(got)
	}
	if got := membersAtFault(&OpenAIProvider{IdentityProvider: "a\nb", AssertionAudience: "a b"}); got != "p.identityProvider p.serviceAccount p.assertionAudience" {
		t.Error(got)
	}
}

// What the providers show to others by default is what their clients ask for.
func TestMUST_I10_AssertionsAreKnown(t *testing.T) {
	for want, p := range map[string]Provider{
		"https://iam.googleapis.com/" + pool: {Google: &GoogleProvider{WorkloadIdentityProvider: pool}},
		"g":                                  {Google: &GoogleProvider{WorkloadIdentityProvider: pool, AssertionAudience: "g"}},
		"api://AzureADTokenExchange":         {Azure: &AzureProvider{}},
		"api://AzureADTokenExchangeUSGov":    {Azure: &AzureProvider{Authority: "usgovernment"}},
		"api://AzureADTokenExchangeChina":    {Azure: &AzureProvider{Authority: "china"}},
		"a":                                  {Azure: &AzureProvider{AssertionAudience: "a"}},
		"https://api.anthropic.com":          {Anthropic: &AnthropicProvider{}},
		"https://api.openai.com/v1":          {OpenAI: &OpenAIProvider{}},
		"j":                                  {JWT: &JWTProvider{Audience: "j"}},
		"sts.amazonaws.com":                  {AWS: &AWSProvider{AssumeRoleWithWebIdentity: &AWSWebIdentity{}}},
		"https://vault.acme.example":         {Vault: &VaultProvider{Address: "https://vault.acme.example", Login: &VaultLogin{Method: vaultJWT}}},
		"v":                                  {Vault: &VaultProvider{Login: &VaultLogin{Method: vaultJWT, Audience: "v"}}},
		"":                                   {MTLS: &MTLSProvider{}},
	} {
		if got := p.Assertion(); got != want {
			t.Errorf("%s shows a JWT-SVID for %q, want %q", p.Kind(), got, want)
		}
	}
}

// A key of the cache tells apart what is asked for.
func TestMUST_C2_WhatIsAskedForIsInTheKey(t *testing.T) {
	id := Provider{Google: &GoogleProvider{WorkloadIdentityProvider: pool, ServiceAccount: account, IDToken: &GoogleIDToken{Audience: "https://run.example"}}}
	if got := id.traits(); got.audience != "https://run.example" || !got.usesSVID || got.shared {
		t.Errorf("%+v", got)
	}
	scoped := Provider{Azure: &AzureProvider{Scope: graph}}
	if got := scoped.traits(); len(got.scopes) != 1 || got.scopes[0] != graph || !got.preview {
		t.Errorf("%+v", got)
	}
	bound := Provider{MTLS: &MTLSProvider{}}
	if got := bound.traits(); !got.certificate || got.shared || len(got.placeholders()) != 0 {
		t.Errorf("%+v", got)
	}
}
