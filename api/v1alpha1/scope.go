// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"

	"github.com/egret-proxy/egret/policy"
)

// platformOnly refuses kinds that only an author without a scope may write (MUST G1).
func (c *compiler) platformOnly(i int, kind string) {
	if len(c.objs[i].Scope) > 0 {
		c.fault(i, Fault{"kind", kind, "must be Workload or AccessPolicy in a source that has a scope",
			"put it into a source of the platform, without scope"})
	}
}

// within reports whether every ID of the pattern lies in the scope. A scope that cannot
// be read holds nothing.
func within(scope []string, ids policy.IDPattern) bool {
	return slices.ContainsFunc(scope, func(s string) bool {
		p, err := policy.ParseIDScope(s)
		return err == nil && p.Covers(ids)
	})
}

// scopedWorkload refuses a Workload whose IDs are not all its author's to name.
func (c *compiler) scopedWorkload(w *workload, ids policy.IDPattern) {
	if len(w.scope) > 0 && !within(w.scope, ids) {
		c.fault(w.index, Fault{"spec.spiffeID", w.spec.Spec.SpiffeID, "must lie within the scope of its source", "the scope is " + list(w.scope)})
	}
}

// scopedPolicy refuses what a policy's author without the platform's rights may not
// grant: workloads of others, and headers by which a request acts as somebody else.
func (c *compiler) scopedPolicy(p *accessPolicy, w *workload) {
	if len(p.scope) == 0 {
		return
	}
	if ids, ok := c.patterns[w]; ok && !within(p.scope, ids) {
		c.fault(p.index, Fault{"spec.workload", w.name, "must be a workload within the scope of its source", "the scope is " + list(p.scope)})
	}
	const rule, hint = "must be absent in a source that has a scope", "the platform may grant it in a policy without scope"
	if len(p.spec.Spec.AllowHeaders) > 0 {
		c.fault(p.index, Fault{"spec.allowHeaders", list(p.spec.Spec.AllowHeaders), rule, hint})
	}
	if list := list(p.spec.Spec.AllowQuery); list != "" {
		c.fault(p.index, Fault{"spec.allowQuery", list, rule, hint})
	}
	if list := list(p.spec.Spec.Minting); list != "" {
		c.fault(p.index, Fault{"spec.minting", list, rule, hint})
	}
	if p.spec.Spec.Mode == modeObserve { // what policy forbids would be forwarded
		c.fault(p.index, Fault{"spec.mode", modeObserve, "must not be observe in a source that has a scope", hint})
	}
	if r := p.spec.Spec.Responses; r != nil && (r.SetCookie || r.WWWAuthenticate) { // to mask more is no right
		c.fault(p.index, Fault{"spec.responses", "", rule, hint})
	}
}

// consents reports whether a credential's usableBy includes all IDs of a workload
// (MUST G2). By name it includes only workloads of the platform: a name can be taken by
// whoever writes it first, a SPIFFE ID cannot.
func (c *compiler) consents(x *credential, w *workload) bool {
	ids, ok := c.patterns[w]
	if !ok {
		return true // the workload's own fault is reported there
	}
	return slices.ContainsFunc(x.spec.Spec.UsableBy, func(u string) bool {
		if u == w.name {
			return len(w.scope) == 0
		}
		p, err := policy.ParseIDScope(u)
		return err == nil && p.Covers(ids)
	})
}
