// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import "strings"

// StaticProvider serves a long-lived key that egret holds, followed when it changes.
type StaticProvider struct {
	// Value is where the key is.
	Value SecretSource `json:"value"`
	// Username goes with it in Basic injections ({username}).
	Username string `json:"username,omitempty"`
}

func (p *StaticProvider) check(f *faults, path string) {
	f.source(path+".value", &p.Value)
	f.optionalLine(path+".username", p.Username)
	if strings.Contains(p.Username, ":") {
		f.bad(path+".username", p.Username, "must not hold a colon (RFC 7617)")
	}
}

func (p *StaticProvider) traits() traits {
	t := traits{shared: true}
	if p.Username != "" {
		t.values = []string{"token", "username"}
	}
	return t
}
