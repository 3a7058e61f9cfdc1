// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// model is Request written a second time, as a plain search over all rules.
func model(w *world, r Request) Decision {
	ops := r.Operations
	if len(ops) == 0 {
		ops = []string{""}
	}
	d := modelOne(w, r, ops[0])
	for _, op := range ops[1:] {
		switch next := modelOne(w, r, op); {
		case d.Rule == nil || d.Verdict != Allow:
		case next.Verdict != Allow:
			d = next
		case next.Rule.Credential != d.Rule.Credential || next.Rule.Observe != d.Rule.Observe || next.Rule.SetCookie != d.Rule.SetCookie:
			refused := modelOne(w, r, "none")
			d = Decision{Workload: w.pinned, Reason: ReasonOperationNotAllowed, Observed: refused.Observed && next.Rule.Observe && d.Rule.Observe}
		}
	}
	return d
}

func modelOne(w *world, r Request, op string) Decision {
	var mine []*Rule
	onlyObserve := true
	for _, rule := range w.set.Rules {
		if rule.Workload == w.pinned && rule.Destination == w.slack {
			mine = append(mine, rule)
			onlyObserve = onlyObserve && rule.Observe
		}
	}
	strict, sound := CheckPath(r.Path, false) == nil, CheckPath(r.Path, true) == nil
	var best *Rule
	near := nothingMatched
	for _, rule := range mine {
		if !sound || !strict && !rule.Encoded || !matches(rule.PathTemplate, r.Path) {
			continue
		}
		got := pathMatched
		if len(rule.Methods) == 0 || slices.Contains(rule.Methods, r.Method) {
			got = methodMatched
			if len(rule.Operations) == 0 || slices.ContainsFunc(rule.Operations, func(e string) bool { return operationMatches(e, op) }) {
				got = operationMatched
				if r.At.Before(rule.Expires) {
					got = granted
				}
			}
		}
		near = max(near, got)
		if got == granted && (best == nil || rank(rule, op) < rank(best, op)) {
			best = rule
		}
	}
	d := Decision{Workload: w.pinned, Rule: best, Reason: near.reason()}
	switch {
	case best != nil:
		d.Verdict, d.Observed = Allow, best.Observe
		return d
	case near == nothingMatched && !strict:
		d.Reason = ReasonAmbiguousPath
	case len(mine) == 0:
		d.Reason = ReasonNoPolicy
	}
	d.Observed = onlyObserve && slices.ContainsFunc(mine, func(r2 *Rule) bool { return r.At.Before(r2.Expires) })
	return d
}

// rank is a string that sorts in the order in which rules win.
func rank(r *Rule, op string) string {
	key := ""
	for _, s := range strings.Split(r.PathTemplate, "/")[1:] {
		key += map[string]string{"*": "1", "**": "2"}[s]
		if s != "*" && s != "**" {
			key += "0"
		}
	}
	key += "|0"
	if len(r.Methods) == 0 {
		key += "1"
	} else {
		key += "0"
	}
	nearness := "z" // any operation
	for _, e := range r.Operations {
		if operationMatches(e, op) {
			nearness = min(nearness, fmt.Sprintf("%04d", 9999-len(e)))
		}
		if e == op {
			nearness = "0"
		}
	}
	key += nearness
	return key + "|" + r.Policy
}

func matches(template, path string) bool {
	t, p := strings.Split(template, "/"), strings.Split(path, "/")
	for i := range t {
		if t[i] == "**" {
			return len(p) > i
		}
		if i >= len(p) || t[i] == "*" && p[i] == "" || t[i] != "*" && unescape(t[i]) != unescape(p[i]) {
			return false
		}
	}
	return len(t) == len(p)
}

func drawTemplate(t *rapid.T) string {
	s := ""
	for range rapid.IntRange(1, 3).Draw(t, "depth") {
		s += "/" + rapid.SampledFrom([]string{"a", "b", "*", "a%2Fb"}).Draw(t, "segment")
	}
	return s + rapid.SampledFrom([]string{"", "", "/", "/**"}).Draw(t, "tail")
}

func drawPath(t *rapid.T) string {
	s := ""
	for range rapid.IntRange(1, 4).Draw(t, "depth") {
		s += "/" + rapid.SampledFrom([]string{"a", "b", "%61", "a%2fb", "c", ""}).Draw(t, "segment")
	}
	return s
}

func drawRule(t *rapid.T, w *world, name string) {
	methods := rapid.SampledFrom([][]string{nil, {"GET"}, {"GET", "PUT"}, {"POST"}}).Draw(t, "methods")
	r := w.add(name, w.pinned, w.slack, drawTemplate(t), methods...)
	r.Operations = rapid.SampledFrom([][]string{nil, nil, {"x"}, {"x", "y"}, {"s:*"}, {"s:g*"}, {"s:get", "x"}}).Draw(t, "operations")
	r.Encoded = strings.Contains(r.PathTemplate, "%2F") || rapid.Bool().Draw(t, "encoded")
	r.Observe = rapid.Bool().Draw(t, "observe")
	if rapid.IntRange(0, 3).Draw(t, "ended") == 0 {
		r.Expires = past
	}
}

func drawRequest(t *rapid.T) Request {
	return Request{ID: id("/pinned"), Evidence: evidence, Target: at("slack.com"), At: now, Path: drawPath(t),
		Method:     rapid.SampledFrom([]string{"GET", "PUT", "HEAD"}).Draw(t, "method"),
		Operations: rapid.SampledFrom([][]string{nil, {"x"}, {"z"}, {"s:get"}, {"s:put"}, {"x", "s:get"}, {"s:get", "s:put"}}).Draw(t, "operation"), Read: true}
}

// TestRequestAgreesWithAPlainSearch holds the tries to the meaning of the rules, and
// Explain to Request.
func TestRequestAgreesWithAPlainSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for i := range rapid.IntRange(0, 6).Draw(t, "rules") {
			drawRule(t, w, string(rune('p'+i)))
		}
		p, r := New(w.set), drawRequest(t)
		got, want := p.Request(r), model(w, r)
		if got.Verdict != want.Verdict || got.Reason != want.Reason || got.Observed != want.Observed || got.Verdict == Allow && got.Rule != want.Rule {
			t.Fatalf("%+v\ngot  %+v\nwant %+v", r, got, want)
		}
		x := p.Explain(r)
		if x.Decision != got || x.Why == "" {
			t.Fatalf("Explain gives %+v, Request %+v", x, got)
		}
		for _, m := range x.Nearest {
			if m.Why == "everything in the rule matches" && got.Reason != ReasonAmbiguousPath {
				t.Fatalf("%q is said to match and was denied %s", m.Rule.PathTemplate, got.Reason)
			}
		}
	})
}

// TestOverlapMeansThatOneRequestCanMeetBoth checks Overlap against requests.
func TestOverlapMeansThatOneRequestCanMeetBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		w.set.Rules = nil
		drawRule(t, w, "a")
		drawRule(t, w, "b")
		a, b, r := w.set.Rules[0], w.set.Rules[1], drawRequest(t)
		if Overlap(a, b) != Overlap(b, a) || !Overlap(a, a) {
			t.Fatal("overlap is neither symmetric nor reflexive")
		}
		both := true
		for _, rule := range []*Rule{a, b} {
			rule.Expires = later
			one := w.set
			one.Rules = []*Rule{rule}
			both = both && New(one).Request(r).Verdict == Allow
		}
		if both && !Overlap(a, b) {
			t.Fatalf("%q and %q both grant %+v and do not overlap", a.PathTemplate, b.PathTemplate, r)
		}
	})
}

func TestOverlap(t *testing.T) {
	w := newWorld()
	rule := func(path string, methods ...string) *Rule {
		return &Rule{Workload: w.job, Destination: w.slack, PathTemplate: path, Methods: methods}
	}
	for _, c := range []struct {
		a, b *Rule
		want bool
	}{
		{rule("/**"), rule("/a", "GET"), true},
		{rule("/a", "GET"), rule("/a", "PUT"), false},
		{rule("/a/*"), rule("/*/b"), true},
		{rule("/a/*"), rule("/a/"), false},
		{rule("/a/**"), rule("/a"), false},
		{rule("/a/**"), rule("/a/"), true},
		{rule("/a/*"), rule("/a/b/c"), false},
		{rule("/%61"), rule("/a"), true},
		{rule("/a"), &Rule{Workload: w.ext, Destination: w.slack, PathTemplate: "/a"}, false},
		{rule("/a"), &Rule{Workload: w.job, Destination: w.gitlab, PathTemplate: "/a"}, false},
		{&Rule{Workload: w.job, Destination: w.bank}, &Rule{Workload: w.job, Destination: w.bank}, true},
		{&Rule{Operations: []string{"x"}, PathTemplate: "/a"}, &Rule{Operations: []string{"y"}, PathTemplate: "/a"}, false},
	} {
		if got := Overlap(c.a, c.b); got != c.want {
			t.Errorf("Overlap(%v %q, %v %q) = %v", c.a.Methods, c.a.PathTemplate, c.b.Methods, c.b.PathTemplate, got)
		}
	}
}
