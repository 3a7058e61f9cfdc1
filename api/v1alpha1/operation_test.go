// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// faultsOf compiles a changed fixture.
func faultsOf(change func(*fixture)) []ObjectFault {
	f := newFixture()
	change(f)
	_, faults := Compile(f.objects(), f.opt)
	return faults
}

func TestOperationsAreCheckedAndCompiled(t *testing.T) {
	f := newFixture()
	f.slack.Spec.Operation, f.slack.Spec.BodyCredentials = "graphql", []string{"token"}
	f.post.Spec.Allow[0].Operations = []string{"query:viewer", "mutation:*"}
	f.post.Spec.Minting, f.post.Spec.AllowQuery = []string{"slack-oauth"}, []string{"sudo"}
	f.post.Spec.Responses = &Responses{Mask: true}
	p := policy.New(f.compile(t).Set)
	r := request("/ns/qa/sa/dashboard", "slack.com", "POST", "/api/chat.postMessage")
	if d := p.Request(r); d.Extract == nil || d.Extract.Kind() != "graphql" {
		t.Fatalf("unread: %+v", d)
	}
	for op, want := range map[string]policy.Verdict{"query:viewer": policy.Allow, "mutation:x": policy.Allow, "query:other": policy.Deny, "": policy.Deny} {
		r.Operations, r.Read = nil, true
		if op != "" {
			r.Operations = []string{op}
		}
		d := p.Request(r)
		if d.Verdict != want {
			t.Errorf("%q: %+v", op, d)
		}
		if want == policy.Allow && (!d.Rule.Mask || !slices.Equal(d.Rule.Minting, f.post.Spec.Minting) || !slices.Equal(d.Rule.AllowQuery, f.post.Spec.AllowQuery) ||
			!slices.Equal(d.Rule.Destination.BodyCredentials, f.slack.Spec.BodyCredentials)) {
			t.Errorf("rule %+v", d.Rule)
		}
	}
}

func TestFaultsOfOperationsAndMinting(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*fixture)
		object int
		path   string
		words  string
	}{
		"kind":               {func(f *fixture) { f.slack.Spec.Operation = "soap" }, iSlack, "spec.operation", "must be one of aws, s3, graphql, jsonrpc, form"},
		"form without field": {func(f *fixture) { f.slack.Spec.Operation = "form" }, iSlack, "spec.operationField", "must be 1 to 64"},
		"field without form": {func(f *fixture) { f.slack.Spec.Operation, f.slack.Spec.OperationField = "graphql", "x" }, iSlack, "spec.operationField", "without operation: form"},
		"aws elsewhere":      {func(f *fixture) { f.slack.Spec.Operation = "aws" }, iSlack, "spec.hosts[0]", "must be a host of AWS"},
		"another one at AWS": {func(f *fixture) {
			f.slack.Spec.Operation, f.slack.Spec.Hosts = "graphql", []string{"sts.amazonaws.com"}
		}, iSlack, "spec.operation", "must be aws"},
		"tunnelled":         {func(f *fixture) { f.bank.Spec.Operation = "graphql" }, iBank, "spec.operation", "intercept: never"},
		"tunnelled, body":   {func(f *fixture) { f.bank.Spec.BodyCredentials = []string{"token"} }, iBank, "spec.bodyCredentials", "intercept: never"},
		"body":              {func(f *fixture) { f.slack.Spec.BodyCredentials = []string{"a b"} }, iSlack, "spec.bodyCredentials[0]", "letters"},
		"operations unread": {func(f *fixture) { f.post.Spec.Allow[0].Operations = []string{"a:b"} }, iPost, "spec.allow[0].operations", "does not say how to read operations"},
		"operation":         {func(f *fixture) { f.slack.Spec.Operation, f.post.Spec.Allow[0].Operations = "graphql", []string{"*"} }, iPost, "spec.allow[0].operations[0]", "colon or a slash"},
		"star within": {func(f *fixture) {
			f.slack.Spec.Operation, f.post.Spec.Allow[0].Operations = "graphql", []string{"query:*x"}
		}, iPost, "spec.allow[0].operations[0]", "at its end only"},
		"operation twice": {func(f *fixture) {
			f.slack.Spec.Operation, f.post.Spec.Allow[0].Operations = "graphql", []string{"a:b", "a:b"}
		}, iPost, "spec.allow[0].operations[1]", "only once"},
		"unknown minting":          {func(f *fixture) { f.post.Spec.Minting = []string{"slack-oaut"} }, iPost, "spec.minting[0]", "must be the id"},
		"minting without":          {func(f *fixture) { f.none.Spec.Minting = []string{"slack-oauth"} }, iNone, "spec.minting", "credential: none"},
		"mask without":             {func(f *fixture) { f.none.Spec.Responses = &Responses{Mask: true} }, iNone, "spec.responses.mask", "credential: none"},
		"minting through a tunnel": {func(f *fixture) { f.tunnel.Spec.Minting = []string{"slack-oauth"} }, iTunnel, "spec.minting", "intercept: never"},
		"query":                    {func(f *fixture) { f.post.Spec.AllowQuery = []string{"a=b"} }, iPost, "spec.allowQuery[0]", "letters"},
	} {
		faults := faultsOf(tc.change)
		if !slices.ContainsFunc(faults, func(x ObjectFault) bool {
			return x.Object == tc.object && x.Path == tc.path && strings.Contains(x.Rule, tc.words)
		}) {
			t.Errorf("%s: %+v", name, faults)
		}
	}
}

func TestSoundSettingsOfAWSAndS3(t *testing.T) {
	for name, change := range map[string]func(*fixture){
		"aws": func(f *fixture) {
			f.slack.Spec.Operation, f.slack.Spec.Hosts = "aws", []string{"sts.amazonaws.com", "bucket.s3.eu-west-1.amazonaws.com"}
		},
		"s3 elsewhere": func(f *fixture) { f.slack.Spec.Operation = "s3" },
		"MCP at AWS": func(f *fixture) {
			f.slack.Spec.Operation, f.slack.Spec.Hosts = "jsonrpc", []string{"x.gateway.bedrock-agentcore.us-east-1.amazonaws.com"}
		},
		"form": func(f *fixture) { f.slack.Spec.Operation, f.slack.Spec.OperationField = "form", "action" },
	} {
		if faults := faultsOf(change); len(faults) > 0 {
			t.Errorf("%s: %+v", name, faults)
		}
	}
}

// An author within a scope may not open what only the platform may.
func TestMUST_G1_H11_AScopedSourceOpensNothing(t *testing.T) {
	for path, change := range map[string]func(*AccessPolicySpec){
		"spec.minting":      func(s *AccessPolicySpec) { s.Minting = []string{"slack-oauth"} },
		"spec.allowQuery":   func(s *AccessPolicySpec) { s.AllowQuery = []string{"sudo"} },
		"spec.responses":    func(s *AccessPolicySpec) { s.Responses = &Responses{Mask: true, SetCookie: true} },
		"spec.allowHeaders": func(s *AccessPolicySpec) { s.AllowHeaders = []string{"Sudo"} },
	} {
		faults := faultsOf(func(f *fixture) { change(&f.byPattern.Spec) })
		if len(faults) != 1 || faults[0].Object != iByPattern || faults[0].Path != path {
			t.Errorf("%s: %+v", path, faults)
		}
	}
	for name, change := range map[string]func(*fixture){
		"mask": func(f *fixture) { f.byPattern.Spec.Responses = &Responses{Mask: true} },
		"operations": func(f *fixture) {
			f.slack.Spec.Operation, f.byPattern.Spec.Allow[0].Operations = "graphql", []string{"query:a"}
		},
	} {
		if faults := faultsOf(change); len(faults) > 0 {
			t.Errorf("%s: %+v", name, faults)
		}
	}
}

// Policies with different credentials may share a path where their operations differ.
func TestOperationsTellPoliciesApart(t *testing.T) {
	for ops, meet := range map[string]bool{"mutation:a": false, "query:viewer": true, "query:*": true, "query:viewer2": false, "": true} {
		faults := faultsOf(func(f *fixture) {
			f.slack.Spec.Operation = "graphql"
			f.post.Spec.Allow = []Allow{{Methods: []string{"POST"}, Paths: []string{"/graphql"}, Operations: []string{"query:viewer"}}}
			f.none.Spec.Allow = []Allow{{Methods: []string{"POST"}, Paths: []string{"/graphql"}}}
			if ops != "" {
				f.none.Spec.Allow[0].Operations = []string{ops}
			}
		})
		if (len(faults) > 0) != meet {
			t.Errorf("%q: %+v", ops, faults)
		}
	}
}
