// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

const incident = "revocation 1 of it: INC-4711"

// TestRecordNamesTheRevocation, and the policy that it takes away.
func TestRecordNamesTheRevocation(t *testing.T) {
	for name, r := range map[string]policy.Revocation{
		"workload":   {Workload: "dashboard", Label: incident},
		"credential": {Credential: "echo-token", Label: incident},
		"policy":     {Policy: "dashboard-echo", Label: incident},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.policy.Store(w.policy.Load().Revoke([]policy.Revocation{r}))
			resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/v1/x")
			if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "revoked" || strings.Contains(text, "INC-4711") {
				t.Errorf("%s %s", resp.Status, text)
			}
			rec := w.recordOf(resp)
			if rec.Detail != incident || rec.Policy != "dashboard-echo" || rec.Verdict != "deny" || rec.Fingerprint != "" {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

func TestRecordOfATunnelNamesTheRevocation(t *testing.T) {
	w := newWorld(t)
	w.policy.Store(w.policy.Load().Revoke([]policy.Revocation{{Workload: "dashboard", Label: incident}}))
	if _, head := w.connect("sidecar", pinHost+":443", ""); !strings.HasPrefix(head, "HTTP/1.1 403") || strings.Contains(head, "INC-4711") {
		t.Fatalf("answer %q", head)
	}
	rec := w.wait(1, any1)[0]
	if rec.Detail != incident || rec.Policy == "" || rec.Reason != "revoked" {
		t.Errorf("record %+v", rec)
	}
}
