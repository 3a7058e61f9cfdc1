// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// OpenAIProvider exchanges the workload's JWT-SVID for an access token of the OpenAI API by workload identity federation. The token ends with the SVID. SPIRE must have a jwt_issuer. Preview.
type OpenAIProvider struct {
	// IdentityProvider is the ID of the workload identity provider at OpenAI. Required.
	IdentityProvider string `json:"identityProvider"`
	// ServiceAccount is the ID of the service account that a mapping gives the SVID. Required.
	ServiceAccount string `json:"serviceAccount"`
	// AssertionAudience is the audience of the JWT-SVID, that of the identity provider at OpenAI. Default: https://api.openai.com/v1.
	AssertionAudience string `json:"assertionAudience,omitempty"`
	// Endpoint is how auth.openai.com is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *OpenAIProvider) check(f *faults, path string) {
	f.line(path+".identityProvider", p.IdentityProvider)
	f.line(path+".serviceAccount", p.ServiceAccount)
	f.oneAudience(path+".assertionAudience", p.AssertionAudience)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (p *OpenAIProvider) traits() traits {
	t := traits{usesSVID: true, preview: true, assertion: p.AssertionAudience}
	if t.assertion == "" {
		t.assertion = "https://api.openai.com/v1"
	}
	return t
}
