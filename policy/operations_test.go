// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy/operation"
)

func TestCheckOperation(t *testing.T) {
	for _, good := range []string{"s3:GetObject", "s3:Get*", "s3:*", "query:repository", "tools/call:*", "tools/list", "notifications/*", "chat.postMessage"} {
		if err := CheckOperation(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "*", "s3*", "s3:*x", "s3:**", "*:x", "a b", "a,b", "a\x00", "é", `a"b`, strings.Repeat("a", 257)} {
		if CheckOperation(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestOperationMatches(t *testing.T) {
	for _, tc := range []struct {
		entry, op string
		want      bool
	}{
		{"s3:Get*", "s3:GetObject", true}, {"s3:Get*", "s3:Get", false}, {"s3:Get*", "s3:getObject", false}, {"s3:*", "s3:x", true},
		{"a", "a", true}, {"a", "A", false}, {"a", "ab", false}, {"tools/call:*", "tools/call", false}, {"a", "", false},
	} {
		if got := operationMatches(tc.entry, tc.op); got != tc.want {
			t.Errorf("%q, %q: %t", tc.entry, tc.op, got)
		}
	}
}

// several is a world in which one destination has an extractor and a rule for each of
// some operations.
func several(change func(rules map[string]*Rule)) (*Policy, Request) {
	w := newWorld()
	bot := &Credential{Name: "bot"}
	w.gitlab.Operation, _ = operation.New(operation.GraphQL, "")
	rules := map[string]*Rule{}
	for _, name := range []string{"a", "b"} {
		r := w.add("rule-"+name, w.pinned, w.gitlab, "/graphql", "POST")
		r.Operations, r.Credential = []string{"query:" + name}, bot
		rules[name] = r
	}
	change(rules)
	return New(w.set), Request{ID: id("/pinned"), Evidence: evidence, Target: at("gitlab.com"), Method: "POST", Path: "/graphql", At: now, Read: true}
}

func TestMUST_H15_EveryOperationOfARequestNeedsAGrantWithTheSameCredential(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(map[string]*Rule)
		ops    []string
		want   Reason
	}{
		"both":               {func(map[string]*Rule) {}, []string{"query:a", "query:b"}, ""},
		"one is not granted": {func(map[string]*Rule) {}, []string{"query:a", "query:c"}, ReasonOperationNotAllowed},
		"first is not":       {func(map[string]*Rule) {}, []string{"query:0", "query:a"}, ReasonOperationNotAllowed},
		"none is known":      {func(map[string]*Rule) {}, nil, ReasonOperationNotAllowed},
		"another credential": {func(r map[string]*Rule) { r["b"].Credential = &Credential{Name: "other"} }, []string{"query:a", "query:b"}, ReasonOperationNotAllowed},
		"no credential":      {func(r map[string]*Rule) { r["b"].Credential = nil }, []string{"query:a", "query:b"}, ReasonOperationNotAllowed},
		"more headers":       {func(r map[string]*Rule) { r["a"].AllowHeaders = []string{"Sudo"} }, []string{"query:a", "query:b"}, ReasonOperationNotAllowed},
		"less masking":       {func(r map[string]*Rule) { r["b"].Mask = true }, []string{"query:a", "query:b"}, ReasonOperationNotAllowed},
		"observed":           {func(r map[string]*Rule) { r["b"].Observe = true }, []string{"query:a", "query:b"}, ReasonOperationNotAllowed},
		"one has ended":      {func(r map[string]*Rule) { r["b"].Expires = past }, []string{"query:a", "query:b"}, ReasonExpired},
		"more minting":       {func(r map[string]*Rule) { r["a"].Minting = []string{"oauth-token"} }, []string{"query:a", "query:b"}, ReasonOperationNotAllowed},
	} {
		p, r := several(tc.change)
		r.Operations = tc.ops
		if d := p.Request(r); d.Reason != tc.want || (d.Verdict == Allow) != (tc.want == "") {
			t.Errorf("%s: %+v", name, d)
		}
	}
	p, r := several(func(map[string]*Rule) {})
	r.Operations = []string{"query:a", "query:b"}
	if d := p.Revoke([]Revocation{{Policy: "rule-b"}}).Request(r); d.Reason != ReasonRevoked {
		t.Errorf("the second grant is revoked: %+v", d)
	}
}

// What is read is asked for only where the answer hangs on it.
func TestMUST_H9_H15_OnlyWhatMattersIsRead(t *testing.T) {
	p, r := several(func(map[string]*Rule) {})
	r.Read = false
	for name, tc := range map[string]struct {
		change func(*Request)
		asks   bool
		reason Reason
	}{
		"it matters":           {func(*Request) {}, true, ReasonOperationNotAllowed},
		"another path":         {func(r *Request) { r.Path = "/x" }, false, ReasonPathNotAllowed},
		"another method":       {func(r *Request) { r.Method = "PUT" }, false, ReasonMethodNotAllowed},
		"weak evidence":        {func(r *Request) { r.Evidence = "token" }, false, ReasonWeakEvidence},
		"unread means nothing": {func(r *Request) { r.Operations = []string{"query:a"} }, true, ReasonOperationNotAllowed},
	} {
		q := r
		tc.change(&q)
		if d := p.Request(q); (d.Extract != nil) != tc.asks || d.Reason != tc.reason || d.Verdict != Deny {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// A longer name of an operation is more specific than a shorter one, and any is last.
func TestTheMoreSpecificOperationDecides(t *testing.T) {
	w := newWorld()
	w.gitlab.Operation, _ = operation.New(operation.GraphQL, "")
	for _, op := range []string{"", "s3:*", "s3:Get*", "s3:GetObject"} {
		r := w.add("p "+op, w.pinned, w.gitlab, "/x", "GET")
		if op != "" {
			r.Operations = []string{op}
		}
	}
	p := New(w.set)
	for op, want := range map[string]string{"s3:GetObject": "p s3:GetObject", "s3:GetObjectAcl": "p s3:Get*", "s3:PutObject": "p s3:*", "sts:X": "p ", "": "p "} {
		r := Request{ID: id("/pinned"), Evidence: evidence, Target: at("gitlab.com"), Method: "GET", Path: "/x", At: now, Read: true}
		if op != "" {
			r.Operations = []string{op}
		}
		if d := p.Request(r); d.Verdict != Allow || d.Rule.Policy != want {
			t.Errorf("%q: %+v", op, d.Rule)
		}
	}
}

func TestMUST_H11_ObservingRulesSayWhatEnforceWouldSay(t *testing.T) {
	w := newWorld()
	r := w.add("o", w.pinned, w.slack, "/**", "POST")
	r.Credential, r.Observe = &Credential{Name: "bot"}, true
	ask := Request{ID: id("/pinned"), Evidence: evidence, Target: at("slack.com"), Method: "POST", Path: "/api/oauth.v2.access", At: now}
	if d := New(w.set).Request(ask); d.Verdict != Deny || !d.Observed || d.Rule != r || d.Reason != ReasonMintingNotAllowed || d.Minting != "slack-oauth" {
		t.Errorf("%+v", d)
	}
	x := New(w.set).Explain(ask)
	if len(x.Nearest) == 0 || !strings.Contains(x.Nearest[0].Why, "minting: [slack-oauth]") {
		t.Errorf("%+v", x)
	}
}

// What another extractor says about a host of AWS is not taken for what AWS would do.
func TestMUST_H11_AnotherExtractorDoesNotSatisfyTheGuard(t *testing.T) {
	w := newWorld()
	w.gitlab.Hosts = []string{"sts.amazonaws.com"}
	w.gitlab.Operation, _ = operation.New(operation.Form, "action")
	r := w.add("sts", w.pinned, w.gitlab, "/**", "POST")
	r.Credential = &Credential{Name: "bot"}
	ask := Request{ID: id("/pinned"), Evidence: evidence, Target: at("sts.amazonaws.com"), Method: "POST", Path: "/", At: now, Read: true, Operations: []string{"sts:GetCallerIdentity"}}
	if d := New(w.set).Request(ask); d.Reason != ReasonMintingNotAllowed {
		t.Errorf("%+v", d)
	}
}
