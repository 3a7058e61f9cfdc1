// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/policy/minting"
	"github.com/egret-proxy/egret/policy/operation"
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
	case d == nil:
		a.pass(nil, nil, p.unlistedReason(a.Workload, Request{ID: id, Evidence: evidence, Target: t, At: at}))
		if a.Reason == ReasonRevoked {
			a.Revoked, _ = p.revoked.caller(id, a.Workload)
		}
	case !d.Intercept:
		rule, reason := p.tunnel(pair{a.Workload, d}, evidence, at)
		if label, revoked := p.revoked.tunnel(id, a.Workload, rule); revoked {
			a.Reason, a.Rule, a.Revoked = ReasonRevoked, rule, label
			return a
		}
		a.pass(d, rule, reason)
	case t.IsIP(): // no SNI, and the interception CA excludes addresses (MUST T6)
		a.Reason = ReasonUnlistedHost
	default: // a revoked caller, too: inside TLS it is told in a readable way
		a.Verdict, a.Destination = Allow, d
	}
	return a
}

// unlistedReason says why a host that no destination lists is not tunnelled, or "". A
// listed host is governed on all its ports, even where unlisted ones pass.
func (p *Policy) unlistedReason(w *Workload, r Request) Reason {
	t := r.Target
	if !p.unlisted || t.IsIP() || t.Host == "" || t.Port == 0 || p.listing(t.Host) != nil {
		return ReasonUnlistedHost
	}
	if _, revoked := p.revoked.caller(r.ID, w); revoked {
		return ReasonRevoked
	}
	return w.refuses(r.Evidence, r.At)
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
// one that names the operation, the longer name first.
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
	if label, revoked := p.revoked.caller(r.ID, w); revoked { // the rule is for the record only
		return Decision{Workload: w, Rule: p.settled(g, w, &r).Rule, Reason: ReasonRevoked, Revoked: label}
	}
	return p.revoked.keep(p.settled(g, w, &r))
}

// settled answers for what is settled by the grants of one workload and destination.
func (p *Policy) settled(g *grants, w *Workload, r *Request) Decision {
	s := g.decide(w, r)
	if d, revoked := p.revoked.first(s.others, w); revoked {
		return d
	}
	switch {
	case s.unread:
		return g.ask(g.extractor, w, r.At)
	case s.reason != "":
		return g.refuse(w, s.reason, r.At)
	case s.rule.Credential != nil && g.minting != nil:
		return p.guarded(g, s.rule, w, r)
	}
	return Decision{Verdict: Allow, Rule: s.rule, Workload: w, Observed: s.rule.Observe}
}

// ask makes the denial that stands until an extractor has been run.
func (g *grants) ask(e *operation.Extractor, w *Workload, at time.Time) Decision {
	d := g.refuse(w, ReasonOperationNotAllowed, at)
	d.Extract = e
	return d
}

// guarded allows a request with a credential unless it is a call that hands out a secret
// and the rule does not name it (MUST H11).
func (p *Policy) guarded(g *grants, rule *Rule, w *Workload, r *Request) Decision {
	c := minting.Call{Host: r.Target.Host, Method: r.Method, Path: r.Path, Read: r.Read, Allowed: rule.Minting}
	if k := g.extractor.Kind(); k == "" || k == operation.AWS { // what another one says means nothing here
		c.Operations = r.Operations
	}
	switch f := g.minting.Check(c); {
	case f.Unread:
		d := g.ask(p.aws, w, r.At)
		d.Rule, d.Observed = observing(rule)
		return d
	case f.Entry != nil:
		d := Decision{Workload: w, Reason: ReasonMintingNotAllowed, Minting: f.Entry.ID}
		d.Rule, d.Observed = observing(rule)
		return d
	}
	return Decision{Verdict: Allow, Rule: rule, Workload: w, Observed: rule.Observe}
}

// observing returns the rule of a denial that is forwarded all the same.
func observing(rule *Rule) (*Rule, bool) {
	if rule.Observe {
		return rule, true
	}
	return nil, false
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

// decide finds the rule that grants the request, or the reason why none does. A nil
// *grants holds no rule.
func (g *grants) decide(w *Workload, r *Request) search {
	plain := pathProblem(r.Path, false) == ""
	if !plain && (g == nil || !g.escapes || pathProblem(r.Path, true) != "") {
		return search{reason: ReasonAmbiguousPath}
	}
	if reason := w.refuses(r.Evidence, r.At); reason != "" {
		return search{reason: reason}
	}
	if g == nil {
		return search{reason: ReasonNoPolicy}
	}
	rules := &g.all
	if !plain {
		rules = &g.encoded
	}
	s := seek(rules, r, g.extractor != nil && !r.Read)
	if s.best == nothingMatched && !plain {
		s.reason = ReasonAmbiguousPath // no rule takes this path encoded
	}
	return s
}

// search looks for the rule that grants each operation of the request. They must let it
// through in the same way, with the same credential.
func seek(rules *node[entry], r *Request, ask bool) search {
	if !r.Read || len(r.Operations) == 0 {
		return seekOne(rules, r, "", ask)
	}
	s := seekOne(rules, r, r.Operations[0], ask)
	for _, op := range r.Operations[1:] {
		if s.rule == nil {
			break
		}
		switch next := seekOne(rules, r, op, ask); {
		case next.rule == nil:
			s = next
		case !next.rule.alike(s.rule):
			s = search{best: methodMatched, reason: methodMatched.reason()}
		case next.rule != s.rule:
			s.others = append(s.others, next.rule)
		}
	}
	return s
}

func seekOne(rules *node[entry], r *Request, op string, ask bool) (s search) {
	rules.walk(r.Path[1:], func(e *entry) bool { return s.try(e, r, op, ask) })
	s.reason = s.best.reason()
	return s
}

// search remembers how near the rules came to the request.
type search struct {
	rule   *Rule
	best   progress
	reason Reason
	unread bool    // rules name operations, and none has been read
	others []*Rule // that grant further operations of the same request
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

// try looks at the rules of one template and reports whether the search is over. With
// ask, rules that name operations end it: which of them is meant has to be read first.
func (s *search) try(e *entry, r *Request, op string, ask bool) bool {
	if ask && (e.named[""] || e.named[r.Method]) {
		s.unread = true
		return true
	}
	for _, method := range [...]string{r.Method, ""} {
		if op != "" && (s.take(e.rules[grant{method, op}], r) || s.takePrefix(e, grant{method, op}, r)) ||
			s.take(e.any[method], r) {
			return true
		}
	}
	if e.methods[""] || e.methods[r.Method] {
		s.best = max(s.best, methodMatched)
	}
	s.best = max(s.best, pathMatched)
	return false
}

// take ends the search with a rule that still grants.
func (s *search) take(rule *Rule, r *Request) bool {
	switch {
	case rule == nil:
		return false
	case rule.live(r.At):
		s.rule, s.best = rule, granted
		return true
	}
	s.best = max(s.best, operationMatched)
	return false
}

// takePrefix tries the rules whose operation ends with *.
func (s *search) takePrefix(e *entry, g grant, r *Request) bool {
	for _, p := range e.prefixes {
		if p.method == g.method && len(g.operation) > len(p.prefix) && strings.HasPrefix(g.operation, p.prefix) && s.take(p.rule, r) {
			return true
		}
	}
	return false
}
