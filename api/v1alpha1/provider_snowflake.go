// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"time"
)

// SnowflakeProvider signs the tokens of key-pair authentication itself; nobody is asked. Inject it together with the constant header X-Snowflake-Authorization-Token-Type: KEYPAIR_JWT.
type SnowflakeProvider struct {
	// Account is the account identifier without region and domain, as acme-prod. Required.
	Account string `json:"account"`
	// User is the one whose public key Snowflake knows. Required.
	User string `json:"user"`
	// PrivateKey is where the user's key is, RSA, PEM or JWK. Required.
	PrivateKey *SecretSource `json:"privateKey"`
	// Lifetime of a token, 1m to 1h. Default: 30m.
	Lifetime string `json:"lifetime,omitempty"`
}

func (p *SnowflakeProvider) check(f *faults, path string) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	if p.Account == "" || strings.Trim(p.Account, letters) != "" {
		f.add(Fault{path + ".account", p.Account, "must be an account identifier of letters, digits, - and _", "leave out region and domain: acme-prod, not acme-prod.eu-central-1"})
	}
	f.line(path+".user", p.User)
	if strings.Contains(p.User, ".") {
		f.bad(path+".user", p.User, "must not hold a dot, which separates it from the account in a token")
	}
	f.requiredSource(path+".privateKey", p.PrivateKey)
	f.duration(path+".lifetime", p.Lifetime, span{time.Minute, time.Hour})
}

func (*SnowflakeProvider) traits() traits { return traits{preview: true} }
