// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

// SlackProvider keeps an app's rotating tokens: its access token lives for 12 hours and is got with a refresh token that works once. All replicas of egret share one state.
type SlackProvider struct {
	// ClientID is that of the Slack app. Required.
	ClientID string `json:"clientID"`
	// ClientSecret is where the app's client secret is. Required.
	ClientSecret *SecretSource `json:"clientSecret"`
	// StateFile keeps the refresh token, in a folder that egret can write to and that all replicas share, outside of the policy. Write the app's refresh token (xoxe-1-…) into it, mode 0600; egret replaces the file from then on. Required.
	StateFile string `json:"stateFile" file:"state"`
	// BaseURL is that of the Web API; of GovSlack https://slack-gov.com/api. Default: https://slack.com/api.
	BaseURL string `json:"baseURL,omitempty"`
	// Endpoint is how the host of the base URL is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *SlackProvider) check(f *faults, path string) {
	f.line(path+".clientID", p.ClientID)
	f.requiredSource(path+".clientSecret", p.ClientSecret)
	f.stateFile(path+".stateFile", p.StateFile)
	if p.BaseURL != "" {
		f.wrong(path+".baseURL", p.BaseURL, checkTokenURL(p.BaseURL))
	}
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) requiredSource(path string, s *SecretSource) {
	if s == nil {
		f.bad(path, "", "is required")
		return
	}
	f.source(path, s)
}

func (*SlackProvider) traits() traits { return traits{shared: true, preview: true} }
