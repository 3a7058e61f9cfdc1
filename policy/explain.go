// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explanation is a decision with its reasons in words, for the people who run egret.
// It quotes the request and so must pass the escaper of wherever it is printed.
type Explanation struct {
	Decision    Decision
	Admission   Admission    // what Connect says to the same caller and target
	Destination *Destination // nil where the target is not listed
	Why         string       // one sentence
	Nearest     []Miss       // where nothing grants: the rules that came nearest, best first, at most three
}

// Miss is a rule that does not grant a request, with the one thing that did not match.
type Miss struct {
	Rule *Rule
	Why  string
}

const nearest = 3 // misses in an Explanation

const allMatches = "everything in the rule matches"

// Explain answers as Request does and says why. Its cost grows with the rules of the
// policy; it is not for the path of a request.
func (p *Policy) Explain(r Request) Explanation {
	x := Explanation{
		Decision:    p.Request(r),
		Admission:   p.Connect(r.ID, r.Evidence, r.Target, r.At),
		Destination: p.Destination(r.Target),
	}
	w := x.Decision.Workload
	switch {
	case x.Decision.Reason == ReasonRevoked:
		x.Why = "it is revoked by hand: " + cmp.Or(x.Decision.Revoked, "egret revoke --list shows by whom and why")
	case x.Decision.Verdict == Allow:
		x.Why = granting(x.Decision.Rule)
	case w == nil || x.Destination == nil || !x.Destination.Intercept:
		x.Why = p.outside(x, r)
	default:
		x.Nearest = p.misses(pair{w, x.Destination}, r)
		for i := range x.Nearest {
			if m := &x.Nearest[i]; m.Why == allMatches && x.Decision.Minting != "" {
				m.Why = fmt.Sprintf("the call hands out a secret, and the rule does not name it: minting: [%s]", x.Decision.Minting)
			} else if m.Why == allMatches && x.Decision.Extract != nil {
				m.Why = "it hangs on what the request does, which has not been read"
			}
		}
		x.Why = inside(x, r)
	}
	return x
}

func granting(r *Rule) string {
	mode := "allows it"
	if r.Observe {
		mode = "allows it, in mode observe: it goes on with the caller's own headers"
	}
	return fmt.Sprintf("policy %q %s by path template %q", r.Policy, mode, r.PathTemplate)
}

// outside explains what is settled before any request is read.
func (p *Policy) outside(x Explanation, r Request) string {
	switch d := x.Destination; {
	case x.Decision.Reason == ReasonNotLoaded:
		return "no policy is loaded"
	case x.Decision.Workload == nil:
		return fmt.Sprintf("no Workload names the SPIFFE ID %q", r.ID)
	case d != nil && !d.Intercept:
		return tunnelled(x)
	case x.Admission.Verdict == Tunnel:
		return fmt.Sprintf("no Destination lists %q; unlisted hosts are tunnelled unread here", r.Target)
	}
	if d := p.listing(r.Target.Host); d != nil {
		return fmt.Sprintf("destination %q lists the host %q, but its ports are %v and not %d", d.Name, r.Target.Host, d.Ports, r.Target.Port)
	}
	return fmt.Sprintf("no Destination lists the host %q", r.Target.Host)
}

func tunnelled(x Explanation) string {
	const how = "destination %q is tunnelled unread (intercept: never): "
	if x.Admission.Verdict == Tunnel {
		return fmt.Sprintf(how+"policy %q allows the connection", x.Destination.Name, x.Admission.Rule.Policy)
	}
	return fmt.Sprintf(how+"the connection is refused, %s", x.Destination.Name, x.Admission.Reason)
}

// inside explains a request that was read and refused.
func inside(x Explanation, r Request) string {
	w := x.Decision.Workload
	switch x.Decision.Reason {
	case ReasonAmbiguousPath:
		return fmt.Sprintf("path %q %s", clip(r.Path), cmp.Or(pathProblem(r.Path, true), pathProblem(r.Path, false)))
	case ReasonWeakEvidence:
		return fmt.Sprintf("workload %q accepts the evidence %s, and the caller has %q", w.Name, orNone(w.Evidence), r.Evidence)
	case ReasonOutsideSchedule:
		return fmt.Sprintf("workload %q runs by a schedule, and %s is in none of its windows", w.Name, stamp(r.At))
	case ReasonNoPolicy:
		return fmt.Sprintf("no AccessPolicy grants workload %q anything at destination %q", w.Name, x.Destination.Name)
	}
	if len(x.Nearest) == 0 {
		return fmt.Sprintf("no rule grants it: %s", x.Decision.Reason.Code())
	}
	return fmt.Sprintf("nearest is policy %q: %s", x.Nearest[0].Rule.Policy, x.Nearest[0].Why)
}

// misses returns the rules of the pair that came nearest.
func (p *Policy) misses(k pair, r Request) []Miss {
	type ranked struct {
		Miss
		near closeness
	}
	var found []ranked
	for _, rule := range p.rules {
		if (pair{rule.Workload, rule.Destination}) == k {
			why, near := rule.miss(r)
			found = append(found, ranked{Miss{rule, why}, near})
		}
	}
	slices.SortStableFunc(found, func(a, b ranked) int {
		return cmp.Or(b.near.compare(a.near), cmp.Compare(a.Rule.Policy, b.Rule.Policy))
	})
	var out []Miss
	for _, f := range found[:min(nearest, len(found))] {
		out = append(out, f.Miss)
	}
	return out
}

// closeness is how near a rule came: first by what matched, then, while the path did
// not, by how much the two look alike.
type closeness struct {
	progress progress
	likeness int
}

func (c closeness) compare(o closeness) int {
	return cmp.Or(cmp.Compare(c.progress, o.progress), cmp.Compare(c.likeness, o.likeness))
}

// likeness weighs the segments that matched, and what else a person would look at.
func (r *Rule) likeness(matched []segment, path []string, method string) int {
	n := 0
	for _, s := range matched {
		n++
		if s.kind == literal {
			n++
		}
	}
	if strings.Count(r.PathTemplate, "/") == len(path) {
		n += 2
	}
	if len(r.Methods) == 0 || slices.Contains(r.Methods, method) {
		n += 2
	}
	return n
}

// miss names the first thing in which a rule and a request differ.
func (r *Rule) miss(q Request) (why string, near closeness) {
	template, path := templateSegments(r.PathTemplate), strings.Split(strings.TrimPrefix(q.Path, "/"), "/")
	if i := firstMiss(template, path); i >= 0 {
		return fmt.Sprintf("path %q is not in %q: segment %d is %s, the rule has %s", clip(q.Path), r.PathTemplate,
			i+1, segmentAt(path, i), segmentAt(template, i)), closeness{likeness: r.likeness(template[:min(i, len(template))], path, q.Method)}
	}
	if pathProblem(q.Path, r.Encoded) != "" {
		return fmt.Sprintf("path %q has escapes that only a rule with encoded: true takes", clip(q.Path)), closeness{likeness: 3 * len(path)}
	}
	switch {
	case len(r.Methods) > 0 && !slices.Contains(r.Methods, q.Method):
		near.progress = pathMatched
		return fmt.Sprintf("method is %q, the rule allows %s", q.Method, strings.Join(r.Methods, ", ")), near
	case r.uncovered(q) != "":
		near.progress = methodMatched
		return fmt.Sprintf("%s, the rule allows %s", r.uncovered(q), strings.Join(r.Operations, ", ")), near
	case !r.live(q.At):
		near.progress = operationMatched
		return fmt.Sprintf("the rule ended at %s, and it is %s", stamp(r.Expires), stamp(q.At)), near
	}
	near.progress = granted
	return allMatches, near
}

// uncovered says which operation of a request the rule does not name, "" where it names
// all.
func (r *Rule) uncovered(q Request) string {
	switch {
	case len(r.Operations) == 0:
		return ""
	case !q.Read:
		return "what the request does has not been read"
	case len(q.Operations) == 0:
		return "what the request does cannot be told"
	}
	for _, op := range q.Operations {
		if !r.covers(op) {
			return fmt.Sprintf("operation is %q", clip(op))
		}
	}
	return ""
}

func segmentAt[S any](list []S, i int) string {
	if i >= len(list) {
		return "missing"
	}
	return fmt.Sprintf("%q", clip(fmt.Sprint(list[i])))
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
