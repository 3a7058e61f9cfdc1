// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"testing"

	"github.com/egret-proxy/egret/identity"
)

// The main job: a workload without a token calls the SaaS, which sees a valid one.
func TestACallIsMadeWithACredentialThatTheCallerNeverHad(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]*http.Client{"h2": w.client("sidecar"), "h1": w.client("sidecar", http1)} {
		t.Run(name, func(t *testing.T) {
			resp, text := w.get(c, "https://"+echoHost+"/v1/things?q=1&x=%2F")
			if resp.StatusCode != http.StatusOK {
				t.Fatalf("status %d: %s", resp.StatusCode, text)
			}
			rep := report(t, text)
			if rep.Fingerprint != w.minter.last.Load().Fingerprint() || rep.Path != "/v1/things" || rep.Query != "q=1&x=%2F" {
				t.Errorf("the SaaS saw %+v", rep)
			}
			r := w.recordOf(resp)
			if r.Workload != jobID || r.Evidence != identity.EvidenceSidecar || r.Verdict != "allow" || r.Policy != "dashboard-echo" ||
				r.Credential != "echo-token" || r.Fingerprint != rep.Fingerprint || r.Status != 200 || r.Proto != name || r.CallerCredential != "none" {
				t.Errorf("record %+v", r)
			}
		})
	}
	if n := w.minter.mints.Load(); n != 1 {
		t.Errorf("%d tokens were minted for two calls", n)
	}
}
