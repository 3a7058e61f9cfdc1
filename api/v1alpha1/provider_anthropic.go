// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// AnthropicProvider exchanges the workload's JWT-SVID for an access token of the Claude API by workload identity federation. SPIRE must have a jwt_issuer. Preview.
type AnthropicProvider struct {
	// FederationRule is the ID of the rule that must match the SVID: fdrl_… Required.
	FederationRule string `json:"federationRule"`
	// Organization is its UUID. Required.
	Organization string `json:"organization"`
	// ServiceAccount is the ID of the account to act as: svac_… Required.
	ServiceAccount string `json:"serviceAccount"`
	// Workspace is the ID of the workspace that the token is for: wrkspc_…, or default. Required where the rule is enabled for several. Default: the only one.
	Workspace string `json:"workspace,omitempty"`
	// AssertionAudience is the audience of the JWT-SVID. Default: https://api.anthropic.com.
	AssertionAudience string `json:"assertionAudience,omitempty"`
	// Endpoint is how api.anthropic.com is reached for the exchange.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *AnthropicProvider) check(f *faults, path string) {
	f.tagged(path+".federationRule", p.FederationRule, "fdrl_")
	f.tagged(path+".serviceAccount", p.ServiceAccount, "svac_")
	if p.Workspace != "" && p.Workspace != "default" {
		f.tagged(path+".workspace", p.Workspace, "wrkspc_")
	}
	if !uuid(p.Organization) {
		f.bad(path+".organization", p.Organization, "must be a UUID")
	}
	f.oneAudience(path+".assertionAudience", p.AssertionAudience)
	f.endpoint(path+".endpoint", p.Endpoint)
}

// tagged checks an ID that begins with what it is of.
func (f *faults) tagged(path, value, tag string) {
	rest, ok := strings.CutPrefix(value, tag)
	if !ok || rest == "" || len(rest) > 128 || !alphanumeric(rest) {
		f.bad(path, value, "must be an ID that begins with "+tag)
	}
}

func alphanumeric(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}) < 0
}

func (p *AnthropicProvider) traits() traits {
	t := traits{usesSVID: true, preview: true, assertion: p.AssertionAudience}
	if t.assertion == "" {
		t.assertion = "https://api.anthropic.com"
	}
	return t
}
