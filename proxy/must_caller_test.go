// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// Callers' own credentials in less common places do not pass beside egret's.
func TestMUST_H2_H4_UncommonNamesOfCredentials(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) { s.Rules[0].AllowQuery = []string{"sig"} }))
	both(t, w, func(t *testing.T, c *http.Client) {
		for _, name := range []string{"job_token", "access_key", "authorization", "bearer", "jwt", "password", "secret", "Signature"} {
			resp, text := w.get(c, "https://"+echoHost+"/x?"+name+"=hunter2")
			if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "credential_in_query" {
				t.Errorf("%s: %d %s", name, resp.StatusCode, text)
			}
		}
		for _, query := range []string{"sig=1", "key=name", "sort_key=1", "secret_type=x"} {
			if resp, text := w.get(c, "https://"+echoHost+"/x?"+query); resp.StatusCode != 200 {
				t.Errorf("%s: %d %s", query, resp.StatusCode, text)
			}
		}
		if resp, _ := w.get(c, "https://"+echoHost+"/x?SIG=1"); resp.StatusCode != 403 {
			t.Errorf("another spelling of what is named: %s", resp.Status)
		}
		r := request(t, "GET", "https://"+echoHost+"/x", nil)
		for _, name := range []string{"Ocp-Apim-Subscription-Key", "X-GitHub-Token", "X-Session-Token", "Auth", "X-Auth", "X_AUTH"} {
			r.Header[name] = []string{"hunter2"}
		}
		if got := body(t, do(t, c, r)); strings.Contains(got, "hunter2") || report(t, got).Method != "GET" {
			t.Errorf("%s", got)
		}
	})
}
