// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/policy"
)

func list(s []string) string { return strings.Join(s, ", ") }

func (c *compiler) linkWorkloads() {
	for _, w := range inOrder(c.workloads) {
		w.out = w.spec.compile()
		w.digest = digestOf(generationDigest, w.spec.Spec)
		if ids, err := policy.ParseIDPattern(w.spec.Spec.SpiffeID); err == nil {
			c.patterns[w] = ids
			c.scopedWorkload(w, ids)
		}
	}
}

func (c *compiler) linkDestinations() {
	for _, d := range inOrder(c.destinations) {
		d.out = d.spec.compile()
		if t := d.spec.Spec.TLS; t != nil && t.Roots != "" && d.out.Intercept {
			d.out.Roots, d.out.RootsDigest = c.roots(d.index, "spec.tls.roots", t.Roots)
		}
		d.digest = digestOf(generationDigest, d.spec.Spec, d.out.RootsDigest)
	}
}

func (c *compiler) linkCredentials() {
	for _, x := range inOrder(c.credentials) {
		for i, name := range x.spec.Spec.Destinations {
			c.boundDestination(x, i, name)
		}
		for i, u := range x.spec.Spec.UsableBy {
			if !strings.Contains(u, ":") {
				find(c, c.workloads, reference{x.index, at("spec.usableBy", i), u, KindWorkload})
			}
		}
		var pool *x509.CertPool
		var digest string
		if path, e := x.spec.Spec.Provider.Endpoint(); e != nil && e.Roots != "" {
			pool, digest = c.roots(x.index, path+".roots", e.Roots)
		}
		c.signedHosts(x)
		x.digest = digestOf(generationDigest, x.spec.Spec, digest)
		x.out = x.spec.key(x.digest)
		c.compiled = append(c.compiled, c.assemble(x, pool, digest))
	}
}

func (c *compiler) boundDestination(x *credential, i int, name string) {
	d := find(c, c.destinations, reference{x.index, at("spec.destinations", i), name, KindDestination})
	if d != nil && d.spec.Spec.tunnelled() {
		c.fault(x.index, Fault{at("spec.destinations", i), name, "must be an intercepted destination: nothing can be put into a tunnel", "its intercept is never"})
	}
}

// assemble makes the form that the builder of providers takes.
func (c *compiler) assemble(x *credential, pool *x509.CertPool, digest string) CompiledCredential {
	s := &x.spec.Spec
	out := CompiledCredential{
		Name:         x.name,
		Generation:   x.out.Generation,
		Owner:        s.Owner,
		Environment:  s.Environment,
		AsEgret:      s.As == asEgret,
		Shared:       x.out.Shared,
		Bare:         s.Provider.traits().certificate,
		Preview:      s.Provider.Preview(),
		TTL:          s.lifetime(),
		Provider:     s.Provider,
		Roots:        pool,
		RootsDigest:  digest,
		Destinations: slices.Clone(s.Destinations),
	}
	for _, in := range s.Inject {
		entry := CompiledInject{Inject: in}
		for _, name := range s.Destinations {
			if d := c.destinations[name]; d != nil && in.appliesTo(name) {
				entry.Hosts = append(entry.Hosts, d.out.Hosts...)
			}
		}
		out.Inject = append(out.Inject, entry)
	}
	return out
}

func (c *compiler) linkPolicies() {
	for _, p := range inOrder(c.policies) {
		s := &p.spec.Spec
		w := find(c, c.workloads, reference{p.index, "spec.workload", s.Workload, KindWorkload})
		d := find(c, c.destinations, reference{p.index, "spec.destination", s.Destination, KindDestination})
		if w != nil {
			c.scopedPolicy(p, w)
		}
		sound := d != nil && c.fits(p, d) && w != nil
		x := c.grantedCredential(p)
		if x != nil && d != nil {
			c.bound(p, x)
		}
		if x != nil && w != nil {
			c.usable(p, x, w)
		}
		c.bounded(p)
		if sound {
			c.makeRules(p, grantees{w, d, x})
		}
	}
}

// fits reports whether a policy says what its destination needs, and nothing it ignores.
func (c *compiler) fits(p *accessPolicy, d *destination) bool {
	var f faults
	s := &p.spec.Spec
	if d.spec.Spec.tunnelled() {
		const because = "for a destination with intercept: never"
		f.absent("spec.credential", s.Credential != "", because)
		f.absent("spec.allow", len(s.Allow) > 0, because)
		f.absent("spec.mode", s.Mode == modeObserve, because)
		f.absent("spec.upgrade", s.Upgrade != nil, because)
		f.absent("spec.allowHeaders", len(s.AllowHeaders) > 0, because)
		f.absent("spec.responses", s.Responses != nil, because)
		f.absent("spec.allowQuery", len(s.AllowQuery) > 0, because)
		f.absent("spec.minting", len(s.Minting) > 0, because)
	} else {
		if s.Credential == "" {
			f.add(Fault{"spec.credential", "", "is required", `"none" forwards without any`})
		}
		if len(s.Allow) == 0 {
			f.add(Fault{"spec.allow", "", "is required", "list the methods and paths that are granted"})
		}
	}
	f.used(s, d)
	c.fault(p.index, f...)
	return len(f) == 0
}

// used refuses settings that have nothing to act on.
func (f *faults) used(s *AccessPolicySpec, d *destination) {
	if s.Credential == credentialNone {
		const because = "with credential: none"
		f.absent("spec.minting", len(s.Minting) > 0, because)
		f.absent("spec.responses.mask", s.Responses != nil && s.Responses.Mask, because)
	}
	for i := range s.Allow {
		if len(s.Allow[i].Operations) > 0 && d.spec.Spec.Operation == "" && !d.spec.Spec.tunnelled() {
			f.add(Fault{at("spec.allow", i) + ".operations", list(s.Allow[i].Operations),
				"must be absent at a destination that does not say how to read operations", "set operation in destination " + d.name})
		}
	}
}

// grantedCredential returns the credential of a policy; nil where it has none, or where
// the name stands for nothing, which is then a fault.
func (c *compiler) grantedCredential(p *accessPolicy) *credential {
	name := p.spec.Spec.Credential
	if name == "" || name == credentialNone {
		return nil
	}
	return find(c, c.credentials, reference{p.index, "spec.credential", name, KindCredential})
}

func (c *compiler) bound(p *accessPolicy, x *credential) {
	if s := &p.spec.Spec; !slices.Contains(x.spec.Spec.Destinations, s.Destination) {
		c.fault(p.index, Fault{"spec.credential", x.name, fmt.Sprintf("must be bound to destination %s", s.Destination),
			"it may go only to " + list(x.spec.Spec.Destinations)})
	}
	for i, h := range p.spec.Spec.AllowHeaders {
		if slices.ContainsFunc(x.spec.Spec.Inject, func(in Inject) bool { return in.place() == "header "+spelling(h) }) {
			c.fault(p.index, Fault{Path: at("spec.allowHeaders", i), Value: h, Rule: "must not be a header that the credential sets"})
		}
	}
}

func (c *compiler) usable(p *accessPolicy, x *credential, w *workload) {
	if !c.consents(x, w) {
		hint := "add the workload to usableBy of the credential"
		if len(w.scope) > 0 {
			hint = "add its SPIFFE ID to usableBy of the credential; a name does not do for a workload from a source with a scope"
		}
		c.fault(p.index, Fault{"spec.credential", x.name, fmt.Sprintf("must be usable by workload %s", w.name), hint})
	}
	if a, b := x.spec.Spec.Environment, w.spec.Spec.Environment; a != b {
		c.fault(p.index, Fault{"spec.credential", x.name, fmt.Sprintf("must be of the environment of its workload, %q", b), fmt.Sprintf("it is of %q", a)})
	}
}

// bounded checks maxStream against the node's limit.
func (c *compiler) bounded(p *accessPolicy) {
	text, most := p.spec.Spec.MaxStream, c.opt.MaxStream
	if d, err := time.ParseDuration(text); err == nil && most > 0 && d > most {
		c.fault(p.index, Fault{"spec.maxStream", text, "must be at most the node's limit, " + short(most), "limits.maxStream of the node sets it"})
	}
}

// grantees are what a policy connects; the credential may be nil.
type grantees struct {
	workload    *workload
	destination *destination
	credential  *credential
}

func (c *compiler) makeRules(p *accessPolicy, g grantees) {
	common := policy.Rule{
		Workload:    g.workload.out,
		Destination: g.destination.out,
		Environment: g.workload.spec.Spec.Environment,
		MaxStream:   c.opt.MaxStream,
	}
	credentialDigest := ""
	if g.credential != nil {
		common.Credential, credentialDigest = g.credential.out, g.credential.digest
	}
	p.digest = digestOf(generationDigest, p.spec.Spec)
	common.Digest = digestOf(shortDigest, p.name, p.digest, g.workload.name, g.workload.digest,
		g.destination.name, g.destination.digest, credentialDigest)
	p.out = p.spec.rules(common)
}
