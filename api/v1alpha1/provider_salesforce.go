// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"net/url"

	"github.com/egret-proxy/egret/policy"
)

// SalesforceProvider gets access tokens by the JWT bearer flow: an app's key signs for a user. Salesforce tells no lifetime: set spec.ttl below the session time of the org.
type SalesforceProvider struct {
	// LoginURL is asked for tokens: https://test.salesforce.com for a sandbox, or https://DOMAIN.my.salesforce.com. Default: https://login.salesforce.com.
	LoginURL string `json:"loginURL,omitempty"`
	// Audience is https://login.salesforce.com or https://test.salesforce.com. Required where loginURL is neither of them.
	Audience string `json:"audience,omitempty"`
	// ClientID is the consumer key of the app. Required.
	ClientID string `json:"clientID"`
	// Username is the user as whom egret acts, approved for the app beforehand. Required.
	Username string `json:"username"`
	// PrivateKey is where the app's key is, RSA, PEM or JWK. Required.
	PrivateKey *SecretSource `json:"privateKey"`
	// Hosts are the only ones at which a token may be good, those of the destinations: an answer that names another one (instance_url) is refused. Required.
	Hosts []string `json:"hosts"`
	// Endpoint is how the host of the login URL is reached.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
}

func (p *SalesforceProvider) check(f *faults, path string) {
	const production, sandbox = "https://login.salesforce.com", "https://test.salesforce.com"
	switch {
	case p.LoginURL == "" || p.LoginURL == production || p.LoginURL == sandbox:
		f.oneOf(path+".audience", p.Audience, "", production, sandbox)
	default:
		f.loginURL(path+".loginURL", p.LoginURL)
		f.oneOf(path+".audience", p.Audience, production, sandbox)
	}
	f.line(path+".clientID", p.ClientID)
	f.line(path+".username", p.Username)
	f.requiredSource(path+".privateKey", p.PrivateKey)
	f.instances(path+".hosts", p.Hosts)
	f.endpoint(path+".endpoint", p.Endpoint)
}

func (f *faults) loginURL(path, value string) {
	if err := checkTokenURL(value); err != nil {
		f.wrong(path, value, err)
		return
	}
	if u, err := url.Parse(value); err != nil || u.Path != "" {
		f.bad(path, value, "must be https with a host and no path")
	}
}

func (f *faults) instances(path string, list []string) {
	if len(list) == 0 {
		f.add(Fault{path, "", "is required", "write the host of your org: acme.my.salesforce.com"})
	}
	for i, h := range list {
		if name, err := policy.ParseHost(h); err != nil {
			f.wrong(at(path, i), h, err)
		} else if name != h {
			f.bad(at(path, i), h, "must be written as "+name)
		}
	}
	f.distinct(path, list)
}

func (*SalesforceProvider) traits() traits { return traits{preview: true} }
