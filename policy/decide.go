// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Connect answers once per connection, before anything is read from it. A known
// workload at an intercepted destination is always allowed in, even where no rule
// covers it: it is refused inside TLS, per request, where the application can see why.
// So evidence and schedule are only asked for here where there is no inside.
func (p *Policy) Connect(id spiffeid.ID, evidence string, t Target, at time.Time) Admission {
	if p == nil || !p.loaded {
		return Admission{Reason: ReasonNotLoaded}
	}
	a := Admission{Workload: p.Workload(id)}
	if a.Workload == nil {
		a.Reason = ReasonUnknownWorkload
		return a
	}
	d := p.Destination(t)
	switch {
	case d == nil && (!p.unlisted || t.IsIP() || t.Host == "" || t.Port == 0 || p.listing(t.Host) != nil):
		// A listed host is governed on all its ports, even where unlisted ones pass.
		a.Reason = ReasonUnlistedHost
	case d == nil:
		a.pass(nil, nil, a.Workload.refuses(evidence, at))
	case !d.Intercept:
		rule, reason := p.tunnel(pair{a.Workload, d}, evidence, at)
		a.pass(d, rule, reason)
	case t.IsIP(): // no SNI, and the interception CA excludes addresses (MUST T6)
		a.Reason = ReasonUnlistedHost
	default:
		a.Verdict, a.Destination = Allow, d
	}
	return a
}

// pass makes the admission a tunnel unless there is a reason against it.
func (a *Admission) pass(d *Destination, rule *Rule, reason Reason) {
	if a.Reason = reason; reason == "" {
		a.Verdict, a.Destination, a.Rule = Tunnel, d, rule
	}
}

func (p *Policy) tunnel(k pair, evidence string, at time.Time) (*Rule, Reason) {
	rules := p.tunnels[k]
	if len(rules) == 0 {
		return nil, ReasonNoPolicy
	}
	if reason := k.workload.refuses(evidence, at); reason != "" {
		return nil, reason
	}
	if !rules[0].live(at) {
		return nil, ReasonExpired
	}
	return rules[0], ""
}

// refuses says why the workload itself may not call now, or "".
func (w *Workload) refuses(evidence string, at time.Time) Reason {
	switch {
	case evidence == "" || !slices.Contains(w.Evidence, evidence):
		return ReasonWeakEvidence
	case w.Schedule != nil && !w.Schedule.Active(at):
		return ReasonOutsideSchedule
	}
	return ""
}

// Grants reports whether any rule, expired or not, lets this identity do anything at the
// destination. It is a hint for what is worth preparing, never a decision.
func (p *Policy) Grants(id spiffeid.ID, d *Destination) bool {
	if p == nil || !p.loaded || d == nil {
		return false
	}
	w := p.Workload(id)
	if w == nil {
		return false
	}
	k := pair{w, d}
	return p.grants[k] != nil || len(p.tunnels[k]) > 0
}

// Request answers for one request inside an intercepted connection. Of the rules that
// cover a request the one with the most specific path template decides (segment by
// segment from the left: literal, *, **), then the one that names the method, then the
// one that names the operation.
func (p *Policy) Request(r Request) Decision {
	if p == nil || !p.loaded {
		return Decision{Reason: ReasonNotLoaded}
	}
	w := p.Workload(r.ID)
	if w == nil {
		return Decision{Reason: ReasonUnknownWorkload}
	}
	d := p.Destination(r.Target)
	if d == nil || d.Intercept && r.Target.IsIP() {
		return Decision{Workload: w, Reason: ReasonUnlistedHost}
	}
	g := p.grants[pair{w, d}]
	if !d.Intercept { // its grants are tunnels; there is no inside to ask for
		g = nil
	}
	rule, reason := g.decide(w, &r)
	if reason != "" {
		return g.refuse(w, reason, r.At)
	}
	return Decision{Verdict: Allow, Rule: rule, Workload: w, Observed: rule.Observe}
}

// refuse makes the denial. Where every rule of this workload and destination observes,
// and one still runs, the request is to be forwarded untouched all the same.
func (g *grants) refuse(w *Workload, reason Reason, at time.Time) Decision {
	d := Decision{Workload: w, Reason: reason}
	if g != nil && g.observe != nil && g.observe.live(at) {
		d.Rule, d.Observed = g.observe, true
	}
	return d
}

// decide returns the rule that grants the request, or the reason why none does. A nil
// *grants holds no rule.
func (g *grants) decide(w *Workload, r *Request) (*Rule, Reason) {
	plain := pathProblem(r.Path, false) == ""
	if !plain && (g == nil || !g.escapes || pathProblem(r.Path, true) != "") {
		return nil, ReasonAmbiguousPath
	}
	if reason := w.refuses(r.Evidence, r.At); reason != "" {
		return nil, reason
	}
	if g == nil {
		return nil, ReasonNoPolicy
	}
	rules := &g.all
	if !plain {
		rules = &g.encoded
	}
	var s search
	rules.walk(r.Path[1:], func(e *entry) bool { return s.try(e, r) })
	if s.best == nothingMatched && !plain {
		return nil, ReasonAmbiguousPath // no rule takes this path encoded
	}
	return s.rule, s.best.reason()
}

// search remembers how near the rules came to the request.
type search struct {
	rule *Rule
	best progress
}

// progress orders outcomes by how much of the request matched.
type progress int

const (
	nothingMatched progress = iota
	pathMatched
	methodMatched
	operationMatched // only the rule's expiry is against it
	granted
)

func (p progress) reason() Reason {
	switch p {
	case granted:
		return ""
	case operationMatched:
		return ReasonExpired
	case methodMatched:
		return ReasonOperationNotAllowed
	case pathMatched:
		return ReasonMethodNotAllowed
	}
	return ReasonPathNotAllowed
}

// try looks at the rules of one template and reports whether the search is over.
func (s *search) try(e *entry, r *Request) bool {
	for _, op := range [...]operation{{r.Method, r.Operation}, {r.Method, ""}, {"", r.Operation}, {"", ""}} {
		rule := e.rules[op]
		switch {
		case rule == nil:
		case rule.live(r.At):
			s.rule, s.best = rule, granted
			return true
		default:
			s.best = max(s.best, operationMatched)
		}
	}
	if e.methods[""] || e.methods[r.Method] {
		s.best = max(s.best, methodMatched)
	}
	s.best = max(s.best, pathMatched)
	return false
}
