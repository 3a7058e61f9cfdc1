// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/secret"
)

// apiServer answers TokenReviews as kube-apiserver does: it knows one token of the
// service account dashboard, and takes reviews from one other.
func apiServer(t *testing.T, known, reviewer secret.Secret) *httptest.Server {
	t.Helper()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			APIVersion string         `json:"apiVersion"`
			Kind       string         `json:"kind"`
			Spec       map[string]any `json:"spec"`
			Status     map[string]any `json:"status"`
		}
		if r.Header.Get("Authorization") != "Bearer "+reviewer.Reveal() || json.NewDecoder(r.Body).Decode(&review) != nil {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		review.Status = map[string]any{"authenticated": false, "error": "unknown token"}
		if review.Spec["token"] == known.Reveal() {
			review.Status = map[string]any{
				"authenticated": true, "audiences": []string{"egret"},
				"user": map[string]any{
					"username": "system:serviceaccount:qa:dashboard",
					"extra":    map[string]any{"authentication.kubernetes.io/pod-uid": []string{"0a1b2c3d-0000-4000-8000-000000000001"}},
				},
			}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(s.Close)
	return s
}

// TestKubernetesTokenListener: who the API server vouches for is the workload; curl sends
// the token as a password.
func TestKubernetesTokenListener(t *testing.T) {
	t.Parallel()
	curl := program(t, "curl")
	w := listenersWorld(t, "{name: pods, address: 127.0.0.1:0, kind: forward, identify: {kubernetesToken: KUBERNETES}}", "token")
	account := spiffeid.RequireFromString("spiffe://acme.example/account")
	mint := func(audience string) secret.Secret {
		token, err := w.Issuer.MintJWT(account, audience, time.Hour)
		check(t, err)
		return token
	}
	known, reviewer := mint("egret"), mint("https://kubernetes.default.svc")
	api := apiServer(t, known, reviewer)
	check(t, w.Write("reviewer", reviewer.Reveal()+"\n"))
	check(t, w.Write("api.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: api.Certificate().Raw}))))
	edit(t, w, "egret.yaml", "KUBERNETES", `{audience: egret, id: "spiffe://acme.example/ns/{namespace}/sa/{serviceAccount}", server: "`+api.URL+`", ca: api.pem, tokenFile: reviewer}`)
	e := start(t, w).ready()
	e.trust()
	args := []string{"-sS", "-v", "-x", "http://" + e.Address("pods").String(), "--cacert", filepath.Join(w.Dir, "ca.pem"), projects}
	if got := e.run(curl, append([]string{"-U", "token:" + known.Reveal()}, args...)...); !strings.Contains(got, `"status":true`) {
		t.Fatalf("a token that is known: %s\n%s", got, e.records())
	}
	eventually(t, "the record", func() bool { return strings.Contains(e.records(), `"evidence":"token"`) })
	if got := e.run(curl, append([]string{"-U", "token:" + mint("other").Reveal()}, args...)...); !strings.Contains(got, " 407 ") {
		t.Errorf("another token: %s", got)
	}
	if got := e.run(curl, args...); !strings.Contains(got, " 407 ") || !strings.Contains(got, "no_evidence") {
		t.Errorf("no token: %s", got)
	}
	for _, s := range []secret.Secret{known, reviewer} {
		if strings.Contains(e.records()+e.log.String(), s.Reveal()) {
			t.Error("a token is in a record or the log")
		}
	}
}
