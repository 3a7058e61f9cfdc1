// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"
	"time"
)

// StaticProvider serves a long-lived key that egret holds, followed when it changes.
type StaticProvider struct {
	// Value is where the key is.
	Value SecretSource `json:"value"`
	// Username goes with it in Basic injections ({username}).
	Username string `json:"username,omitempty"`
	// Next is the key that takes the place of Value in a rotation.
	Next *NextKey `json:"next,omitempty"`
}

// NextKey is used as soon as it is there, and Value again if the SaaS refuses it: write the new key here, wait until it is in use (egret credentials shows its fingerprint), then revoke the old one and move the new one to Value. That a next key was refused is kept in memory only: after a restart or a reload it is tried once more, which costs one more refusal; delete its file to be rid of it.
type NextKey struct {
	// File is a path, relative to the policy file. It may not be there yet; its folder must be. Required.
	File string `json:"file" file:"yes"`
	// From is the time (RFC 3339) before which the key is not used. Default: at once.
	From string `json:"from,omitempty"`
}

func (p *StaticProvider) check(f *faults, path string) {
	f.source(path+".value", &p.Value)
	if n := p.Next; n != nil {
		f.file(path+".next.file", n.File)
		if _, err := time.Parse(time.RFC3339, n.From); err != nil && n.From != "" {
			f.add(Fault{path + ".next.from", n.From, "must be a time", "write it as 2027-03-31T06:00:00Z"})
		}
	}
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
