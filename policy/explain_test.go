// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"
)

func TestExplainNamesTheOneThing(t *testing.T) {
	w := newWorld()
	w.set.UnlistedTunnel = true
	p := New(w.set)
	for name, c := range map[string]struct {
		id, host, method, path string
		change                 func(*Request)
		want                   string
		nearest                string
	}{
		"allowed":       {"/job", "slack.com", "POST", "/api/chat.postMessage", nil, `policy "post" allows it by path template "/api/chat.postMessage"`, ""},
		"observed":      {"/watch", "slack.com", "GET", "/api/x", nil, "in mode observe", ""},
		"unknown":       {"/nobody", "slack.com", "GET", "/", nil, `no Workload names the SPIFFE ID "spiffe://acme.example/nobody"`, ""},
		"unlisted":      {"/job", "evil.example", "GET", "/", nil, "unlisted hosts are tunnelled", ""},
		"literal":       {"/job", "192.0.2.9", "GET", "/", nil, `no Destination lists the host "192.0.2.9"`, ""},
		"port":          {"/job", "slack.com", "GET", "/", func(r *Request) { r.Target.Port = 80 }, "its ports are [443] and not 80", ""},
		"tunnel":        {"/pinned", "bank.example", "GET", "/", nil, `policy "t" allows the connection`, ""},
		"tunnel ended":  {"/job", "bank.example", "GET", "/", nil, "the connection is refused, policy/expired", ""},
		"ambiguous":     {"/job", "slack.com", "GET", "/a/../b", nil, "must not hold dot segments", ""},
		"needs encoded": {"/job", "slack.com", "GET", "/a%2Fb", nil, "unless a rule says encoded: true", ""},
		"weak":          {"/job", "slack.com", "GET", "/", func(r *Request) { r.Evidence = "token" }, `accepts the evidence x509-svid, and the caller has "token"`, ""},
		"schedule":      {"/late", "slack.com", "GET", "/", nil, "2027-01-04T06:00:00Z is in none of its windows", ""},
		"no policy":     {"/pinned", "slack.com", "GET", "/", nil, `no AccessPolicy grants workload "pinned" anything at destination "slack"`, ""},
		"method":        {"/job", "slack.com", "GET", "/api/chat.postMessage", nil, `nearest is policy "post": method is "GET", the rule allows POST`, "post"},
		"path":          {"/job", "slack.com", "POST", "/api/chat.delete", nil, `segment 2 is "chat.delete", the rule has "chat.postMessage"`, "post"},
		"too short":     {"/job", "slack.com", "GET", "/api/users", nil, `segment 3 is missing, the rule has "info"`, "any"},
		"ended":         {"/job", "slack.com", "GET", "/old/x", nil, "the rule ended at 2027-01-04T05:00:00Z", "ended"},
		"operation":     {"/job", "gitlab.com", "POST", "/api/graphql", func(r *Request) { r.Operations, r.Read = []string{"m"}, true }, `operation is "m", the rule allows query.issues`, "ops"},
		"strict rule":   {"/job", "gitlab.com", "GET", "/api/v4/groups/a%2Fb", nil, "encoded: true", "groups"},
	} {
		t.Run(name, func(t *testing.T) {
			r := Request{ID: id(c.id), Evidence: evidence, Target: at(c.host), Method: c.method, Path: c.path, At: now}
			if c.change != nil {
				c.change(&r)
			}
			x := p.Explain(r)
			if !strings.Contains(x.Why, c.want) {
				t.Errorf("got  %s\nwant %s", x.Why, c.want)
			}
			if c.nearest != "" && (len(x.Nearest) == 0 || x.Nearest[0].Rule.Policy != c.nearest || len(x.Nearest) > 3) {
				t.Errorf("nearest %+v, want %q first", x.Nearest, c.nearest)
			}
			if x.Decision != p.Request(r) {
				t.Error("explains another decision")
			}
		})
	}
}
