// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/http"
	"testing"

	"github.com/egret-proxy/egret/policy"
)

// Headers that choose a tenant or another identity at the SaaS are the credential's
// matter: the caller's own do not arrive, in no spelling, unless the rule names them.
func TestMUST_H16_SelectorsOfTheCallerDoNotPass(t *testing.T) {
	selectors := []string{
		"Impersonate-User", "Impersonate-Group", "Sudo", "X-On-Behalf-Of", "X-Goog-User-Project", "X-Vault-Namespace",
		"OpenAI-Organization", "OpenAI-Project", "Stripe-Account", "openai_project", "X_VAULT_NAMESPACE",
	}
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		named := *s.Rules[0]
		named.PathTemplate, named.AllowHeaders = "/named/**", []string{"Stripe-Account"}
		s.Rules = append(s.Rules, &named)
	}))
	for path, passes := range map[string]bool{"/plain": false, "/named/x": true} {
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+echoHost+path, nil)
		for _, name := range selectors {
			r.Header[name] = []string{"another-tenant"}
		}
		resp, err := w.client("sidecar", http1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		rep := report(t, body(t, resp))
		for name, values := range rep.Headers {
			if len(values) > 0 && values[0] == "another-tenant" && !(passes && name == "Stripe-Account") {
				t.Errorf("%s: %s arrived", path, name)
			}
		}
		if got := len(rep.Headers["Stripe-Account"]) > 0; got != passes {
			t.Errorf("%s: Stripe-Account arrived: %t, want %t", path, got, passes)
		}
	}
}
