// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/saas"
)

const settings = `listeners:
  - {name: local, address: "127.0.0.1:0", kind: forward, identify: {sidecar: {sameUser: true}}}
spiffe: {workloadAPI: "unix://%[1]s/spiffe/api.sock", trustDomains: [acme.example]}
certs: {issuer: {ephemeral: {bundle: ca.pem}}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
log: {format: json, level: debug}
limits: {drain: 1s}
`

// Vault is a destination itself, with its own client token; the other one gets a KV secret.
const policyText = `apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: alice}
spec: {spiffeID: "spiffe://acme.example/alice", owner: qa@acme.example, purpose: tests, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: vault}
spec: {hosts: [vault.acme.example], ports: [8200], dial: %[1]q, allowPrivate: [127.0.0.0/8], tls: {roots: vault-ca.pem}}
---
apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: api}
spec: {hosts: [api.example.com], dial: %[2]q, allowPrivate: [127.0.0.0/8], tls: {roots: twin.pem}}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: vault-itself}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [vault]
  usableBy: [alice]
  provider:
    vault:
      address: https://vault.acme.example:8200
      login: {method: jwt, role: alice}
      clientToken: {}
      endpoint: {dial: %[1]q, roots: vault-ca.pem, allowPrivate: [127.0.0.0/8]}
  inject: [{header: X-Vault-Token, value: "{token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: api-key}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [api]
  usableBy: [alice]
  ttl: 15s
  provider:
    vault:
      address: https://vault.acme.example:8200
      login: {method: jwt, role: alice}
      kv: {path: qa/app, keys: {token: api_key}}
      endpoint: {dial: %[1]q, roots: vault-ca.pem, allowPrivate: [127.0.0.0/8]}
  inject: [{header: X-Key, value: "{token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: vault}
spec:
  owner: qa@acme.example
  workload: alice
  destination: vault
  credential: vault-itself
  allow: [{methods: [GET], paths: [/v1/secret/**, /v1/auth/token/lookup-self]}]
  expires: 2090-12-31
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: api}
spec:
  owner: qa@acme.example
  workload: alice
  destination: api
  credential: api-key
  allow: [{methods: [GET], paths: [/**]}]
  expires: 2090-12-31
`

// service is a running egret with an API behind it.
type service struct {
	*testbed.Egret
	w    *world
	seen atomic.Pointer[string] // the key that the API got last
}

// egret builds the program and runs it until the test's end, with alice's SVID from the
// embedded issuer's Workload API.
func (w *world) egret() *service {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	w.do(os.Mkdir(w.file("spiffe"), 0o700))
	go func() { served <- w.issuer.Serve(ctx, w.file("spiffe/api.sock"), embedded.Entry{ID: alice}) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			w.t.Errorf("Workload API: %v", err)
		}
	})
	s := &service{w: w}
	s.api()
	bin := w.file("egret")
	w.do(testbed.BuildEgret(bin))
	cmd := exec.Command(bin, "run", "-c", w.file("egret.yaml"))
	cmd.Dir = w.dir
	s.Egret = testbed.Run(w.t, cmd)
	return s
}

// api starts the destination and writes settings and policy.
func (s *service) api() {
	ca, err := saas.NewCA()
	s.w.do(err)
	up, err := saas.Listen(ca, saas.Host{Name: "api.example.com", Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		key := r.Header.Get("X-Key")
		s.seen.Store(&key)
	})})
	s.w.do(err)
	s.w.t.Cleanup(func() { _ = up.Close() })
	policy := fmt.Sprintf(policyText, s.w.addr, up.Addr())
	for name, text := range map[string]string{"twin.pem": string(ca.PEM()), "policy.yaml": policy, "egret.yaml": fmt.Sprintf(settings, s.w.dir)} {
		s.w.do(os.WriteFile(s.w.file(name), []byte(text), 0o600))
	}
}

func (s *service) curl(url string) (status, body string) {
	s.w.t.Helper()
	return testbed.Curl(s.w.t, s.Address("local"), s.w.file("ca.pem"), url)
}

// curl without any token reads from Vault through egret, as alice and as far as Vault's
// policy goes; nothing is left in Vault when egret ends.
func TestVaultItselfThroughEgret(t *testing.T) {
	w := newWorld(t)
	w.put("top-secret")
	s := w.egret()
	const url = "https://vault.acme.example:8200/v1/"
	if status, body := s.curl(url + "secret/data/qa/app"); status != "200" || !strings.Contains(body, "top-secret") {
		t.Fatalf("%s %s", status, body)
	}
	_, body := s.curl(url + "auth/token/lookup-self")
	var self struct {
		Data struct{ Meta struct{ Role string } }
	}
	if err := json.Unmarshal([]byte(body), &self); err != nil || self.Data.Meta.Role != "alice" {
		t.Errorf("%v: %s", err, body)
	}
	w.policy(`path "secret/data/other/*" { capabilities = ["read"] }`)
	if status, _ := s.curl(url + "secret/data/qa/app"); status != "403" {
		t.Errorf("after a change of Vault's policy: %s", status)
	}
	if status, _ := s.curl(url + "sys/mounts"); status != "403" {
		t.Errorf("what egret's policy does not allow: %s", status)
	}
	if n := w.tokens(); n != 1 {
		t.Errorf("%d client tokens while it runs", n)
	}
	s.Stop()
	w.await("the revocation of the client token", func() bool { return w.tokens() == 0 })
	if s.Reveals("hvs.", "top-secret", "eyJ") {
		t.Error("MUST C9: a secret is in the log or a record")
	}
}

// A sealed Vault takes down nothing that is still good, and nothing is served after that.
func TestASealedVaultBehindEgret(t *testing.T) {
	w := newWorld(t)
	w.put("first")
	s := w.egret()
	const url = "https://api.example.com/"
	if status, _ := s.curl(url); status != "200" || *s.seen.Load() != "first" {
		t.Fatalf("%s, %q", status, *s.seen.Load())
	}
	sealed := time.Now()
	w.must("PUT", "sys/seal", nil)
	if status, _ := s.curl(url); status != "200" || time.Since(sealed) > 9*time.Second {
		t.Errorf("still good: %s", status)
	}
	w.await("the end of what is good", func() bool { status, _ := s.curl(url); return status == "503" })
	if d := time.Since(sealed); d > 15*time.Second {
		t.Errorf("served for %s after its last reading", d)
	}
	w.must("PUT", "sys/unseal", members{"key": w.unseal})
	w.await("an unsealed Vault", func() bool { status, _ := w.call("GET", "sys/health", nil); return status == 200 })
	w.put("second")
	w.await("a new reading", func() bool { status, _ := s.curl(url); return status == "200" && *s.seen.Load() == "second" })
}
