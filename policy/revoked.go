// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import "github.com/spiffe/go-spiffe/v2/spiffeid"

// ReasonRevoked: somebody has revoked the workload, its grant or the credential by hand,
// ahead of the policy documents.
const ReasonRevoked Reason = "policy/revoked"

// Revocation takes away what the governed objects grant, until it is lifted. Exactly one
// member is set; an empty one revokes nothing.
type Revocation struct {
	ID         spiffeid.ID // one caller
	Workload   string      // all callers of a workload
	Credential string      // all requests that would get it
	Policy     string      // all that an AccessPolicy grants
}

// revocations is what a Policy looks up for every request; nil: none.
type revocations struct {
	ids                             map[spiffeid.ID]bool
	workloads, credentials, granted map[string]bool
}

// Revoke returns the same policy without what list takes away, in place of what an
// earlier call took away. The policy itself is not changed. It costs the same however
// large the policy is.
func (p *Policy) Revoke(list []Revocation) *Policy {
	if p == nil {
		return nil
	}
	out := *p
	out.revoked = nil
	if len(list) == 0 {
		return &out
	}
	r := &revocations{ids: map[spiffeid.ID]bool{}, workloads: map[string]bool{}, credentials: map[string]bool{}, granted: map[string]bool{}}
	for _, x := range list {
		r.add(x)
	}
	out.revoked = r
	return &out
}

func (r *revocations) add(x Revocation) {
	if !x.ID.IsZero() {
		r.ids[x.ID] = true
	}
	note(r.workloads, x.Workload)
	note(r.credentials, x.Credential)
	note(r.granted, x.Policy)
}

func note(set map[string]bool, name string) {
	if name != "" {
		set[name] = true
	}
}

// caller reports whether all that a caller may do is revoked.
func (r *revocations) caller(id spiffeid.ID, w *Workload) bool {
	return r != nil && (r.ids[id] || r.workloads[w.Name])
}

// rule reports whether one grant is revoked, by itself or by its credential.
func (r *revocations) rule(rule *Rule) bool {
	return r != nil && (r.granted[rule.Policy] || rule.Credential != nil && r.credentials[rule.Credential.Name])
}

// keep returns a decision as it is unless its rule is revoked. What is revoked does not
// pass in mode observe either.
func (r *revocations) keep(d Decision) Decision {
	if r == nil || d.Rule == nil || !r.rule(d.Rule) {
		return d
	}
	return Decision{Workload: d.Workload, Reason: ReasonRevoked}
}
