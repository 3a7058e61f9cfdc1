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

	Label string // names it in Decision.Revoked: which one it is, and why
}

// revocations is what a Policy looks up for every request; nil: none.
// The values are labels, which may be empty.
type revocations struct {
	ids                             map[spiffeid.ID]string
	workloads, credentials, granted map[string]string
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
	r := &revocations{ids: map[spiffeid.ID]string{}, workloads: map[string]string{}, credentials: map[string]string{}, granted: map[string]string{}}
	for _, x := range list {
		r.add(x)
	}
	out.revoked = r
	return &out
}

// add takes one up. Of several for the same, the first is named.
func (r *revocations) add(x Revocation) {
	note(r.ids, x.ID, x.Label)
	note(r.workloads, x.Workload, x.Label)
	note(r.credentials, x.Credential, x.Label)
	note(r.granted, x.Policy, x.Label)
}

func note[K comparable](set map[K]string, key K, label string) {
	var none K
	if _, there := set[key]; !there && key != none {
		set[key] = label
	}
}

// caller reports whether all that a caller may do is revoked, and by which revocation.
func (r *revocations) caller(id spiffeid.ID, w *Workload) (label string, revoked bool) {
	if r == nil {
		return "", false
	}
	if label, revoked = r.ids[id]; revoked {
		return label, true
	}
	label, revoked = r.workloads[w.Name]
	return label, revoked
}

// rule reports whether one grant is revoked, by itself or by its credential.
func (r *revocations) rule(rule *Rule) (label string, revoked bool) {
	if r == nil || rule == nil {
		return "", false
	}
	if label, revoked = r.granted[rule.Policy]; revoked || rule.Credential == nil {
		return label, revoked
	}
	label, revoked = r.credentials[rule.Credential.Name]
	return label, revoked
}

// tunnel reports whether a tunnel is revoked: its caller or what grants it.
func (r *revocations) tunnel(id spiffeid.ID, w *Workload, rule *Rule) (label string, revoked bool) {
	if label, revoked = r.caller(id, w); revoked {
		return label, true
	}
	return r.rule(rule)
}

// first returns the first of the rules that is revoked, with its denial.
func (r *revocations) first(rules []*Rule, w *Workload) (Decision, bool) {
	for _, rule := range rules {
		if label, revoked := r.rule(rule); revoked {
			return Decision{Workload: w, Rule: rule, Reason: ReasonRevoked, Revoked: label}, true
		}
	}
	return Decision{}, false
}

// keep returns a decision as it is unless its rule is revoked. What is revoked does not
// pass in mode observe either.
func (r *revocations) keep(d Decision) Decision {
	if label, revoked := r.rule(d.Rule); revoked {
		return Decision{Workload: d.Workload, Rule: d.Rule, Reason: ReasonRevoked, Revoked: label}
	}
	return d
}
