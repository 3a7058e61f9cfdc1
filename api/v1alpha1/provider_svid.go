// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"strings"

	"github.com/egret-proxy/egret/policy"
)

// JWTProvider gives a JWT-SVID of the workload itself, for a destination that verifies SPIFFE identities.
type JWTProvider struct {
	// Audience is the destination's own and the only one of the token; never that of a listener of egret. Required.
	Audience string `json:"audience"`
	// SingleUse refuses tokens without a jti, for a destination that accepts each token once; SPIRE's entry needs jwtSVIDIncludeJTI.
	SingleUse bool `json:"singleUse,omitempty"`
}

func (p *JWTProvider) check(f *faults, path string) {
	if p.Audience == "" {
		f.bad(path+".audience", "", "is required")
	}
	f.oneAudience(path+".audience", p.Audience)
}

func (p *JWTProvider) traits() traits {
	return traits{usesSVID: true, audience: p.Audience, assertion: p.Audience}
}

// MTLSProvider presents the workload's X.509-SVID as client certificate to the destination; nothing has to be injected.
type MTLSProvider struct{}

func (*MTLSProvider) check(*faults, string) {}

func (*MTLSProvider) traits() traits {
	return traits{usesSVID: true, certificate: true, values: []string{}}
}

// oneAudience checks what a JWT-SVID is asked for: an SVID for several could be used at
// each by the others.
func (f *faults) oneAudience(path, value string) {
	f.optionalLine(path, value)
	if strings.ContainsAny(value, ", ") {
		f.bad(path, value, "must be exactly one audience")
	}
}

// scopes checks a list of OAuth scopes.
func (f *faults) scopes(path string, list []string) {
	for i, s := range list {
		if !scopeToken(s) {
			f.add(Fault{at(path, i), s, "must be one scope (RFC 6749, 3.3)", "one list entry for each scope"})
		}
	}
	f.distinct(path, list)
}

// uuid implements the text form of RFC 9562, 4.
func uuid(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if len(parts[i]) != n || strings.Trim(parts[i], "0123456789abcdefABCDEF") != "" {
			return false
		}
	}
	return true
}

// hostname reports a canonical name without a wildcard; a UUID is one.
func hostname(s string) bool {
	name, err := policy.ParseHost(s)
	return err == nil && name == s && !strings.HasPrefix(s, "*")
}
