// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"testing"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// A walk goes through the stages of a request, stops at the first that fails with the
// reason that the application would get, and leaves one record.
func TestProbeStopsWhereARequestWould(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, host, method, path, query string
		last                            string // stage
		reason                          policy.Reason
	}{
		{"everything", echoHost, "GET", "/v1/x", "q=1", "upstream", ""},
		{"what changes something is not sent", echoHost, "POST", "/v1/x", "", "upstream", ""},
		{"unlisted", "unlisted.example", "GET", "/", "", "policy", policy.ReasonUnlistedHost},
		{"ambiguous", echoHost, "GET", "/a/../b", "", "policy", policy.ReasonAmbiguousPath},
		{"credential in the query", echoHost, "GET", "/x", "access_token=1", "policy", reasonQueryCredential},
		{"never forwarded", echoHost, "TRACE", "/x", "", "policy", reasonMethod},
		{"refused by the SaaS", echoHost, "GET", "/status/401", "", "upstream", reasonUpstreamAuth},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(w.echo.Reports())
			walk := w.srv.Probe(t.Context(), jobCaller{}, policy.Request{
				Target: policy.Target{Host: c.host, Port: 443}, Method: c.method, Path: c.path, At: time.Now(),
			}, c.query)
			last := walk.Stages[len(walk.Stages)-1]
			if last.Name != c.last || last.Reason != c.reason || walk.OK != (c.reason == "") {
				t.Errorf("ended at %+v", last)
			}
			if sent := len(w.echo.Reports()) > before; sent != (c.last == "upstream" && c.method == "GET") {
				t.Errorf("sent: %t", sent)
			}
			if r := w.wait(1, func(r record) bool { return r.ID == walk.ID })[0]; r.Layer+"/"+r.Reason != string(c.reason) && c.reason != "" {
				t.Errorf("record %+v", r)
			}
		})
	}
}
