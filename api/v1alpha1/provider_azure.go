// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"net/url"
	"strings"
)

// AzureProvider asks Microsoft Entra ID for an access token with the workload's JWT-SVID as client assertion. SPIRE must sign with RS256. Preview.
type AzureProvider struct {
	// Tenant is its ID or a domain of it. Required.
	Tenant string `json:"tenant"`
	// ClientID is that of the application or user-assigned managed identity that has the federated credential. Required.
	ClientID string `json:"clientID"`
	// Scope is of one resource and ends in /.default: https://graph.microsoft.com/.default. Required.
	Scope string `json:"scope"`
	// Authority is public (default), usgovernment, china, or an https URL of another instance, without a path.
	Authority string `json:"authority,omitempty"`
	// AssertionAudience is the audience of the JWT-SVID. Default: that of the cloud, api://AzureADTokenExchange for public.
	AssertionAudience string `json:"assertionAudience,omitempty"`
	// Endpoint is how the authority is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *AzureProvider) check(f *faults, path string) {
	if !hostname(p.Tenant) {
		f.bad(path+".tenant", p.Tenant, "must be the ID of a tenant or a domain of it")
	}
	switch p.Tenant {
	case "common", "organizations", "consumers":
		f.bad(path+".tenant", p.Tenant, "must be one tenant: an application has no token for all")
	}
	if !uuid(p.ClientID) {
		f.add(Fault{path + ".clientID", p.ClientID, "must be a UUID", "the application (client) ID, not the object ID"})
	}
	if u, err := url.Parse(p.Scope); err != nil || !u.IsAbs() || !strings.HasSuffix(p.Scope, "/.default") || !scopeToken(p.Scope) {
		f.add(Fault{path + ".scope", p.Scope, "must be the URI of one resource and /.default", "for example https://graph.microsoft.com/.default"})
	}
	f.authority(path+".authority", p.Authority)
	f.oneAudience(path+".assertionAudience", p.AssertionAudience)
	f.endpoint(path+".endpoint", p.Endpoint)
}

// authority: one of the clouds, or a host whose paths egret makes.
func (f *faults) authority(path, value string) {
	switch value {
	case "", "public", "usgovernment", "china":
		return
	}
	err := checkTokenURL(value)
	if u, parsed := url.Parse(value); err != nil || parsed != nil || u.Path != "" {
		f.add(Fault{path, value, "must be public, usgovernment, china, or an https URL without a path", ""})
	}
}

func (p *AzureProvider) traits() traits {
	t := traits{usesSVID: true, preview: true, scopes: []string{p.Scope}, assertion: p.AssertionAudience}
	if t.assertion == "" {
		t.assertion = "api://AzureADTokenExchange" + map[string]string{"usgovernment": "USGov", "china": "China"}[p.Authority]
	}
	return t
}
