// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package vault

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity/embedded"
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

// service is a running egret.
type service struct {
	w       *world
	cmd     *exec.Cmd
	done    chan struct{}
	ready   chan struct{}
	mu      sync.Mutex
	log     bytes.Buffer
	address string
	seen    atomic.Pointer[string] // the key that the API got last
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
	s := &service{w: w, done: make(chan struct{}), ready: make(chan struct{})}
	s.api()
	bin := w.file("egret")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/egret").CombinedOutput(); err != nil {
		w.t.Fatalf("%v: %s", err, out)
	}
	s.cmd = exec.Command(bin, "run", "-c", w.file("egret.yaml"))
	s.cmd.Dir, s.cmd.SysProcAttr = w.dir, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.cmd.StderrPipe()
	if err == nil {
		err = s.cmd.Start()
	}
	w.do(err)
	go s.follow(out)
	w.t.Cleanup(s.stop)
	select {
	case <-s.ready:
	case <-s.done:
		w.t.Fatalf("egret ended: %s", s.text())
	case <-time.After(waitTime):
		w.t.Fatalf("egret is not ready after %s: %s", waitTime, s.text())
	}
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

func (s *service) follow(r io.Reader) {
	defer close(s.done)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var l struct{ Msg, Listener, Address string }
		_ = json.Unmarshal(lines.Bytes(), &l)
		s.mu.Lock()
		s.log.WriteString(lines.Text() + "\n")
		if l.Msg == "listening" && l.Listener == "local" {
			s.address = l.Address
		}
		s.mu.Unlock()
		if l.Msg == "ready" {
			close(s.ready)
		}
	}
}

func (s *service) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// end stops it in good order.
func (s *service) end() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.done
}

func (s *service) stop() {
	s.end()
	if err := s.cmd.Wait(); err != nil {
		s.w.t.Errorf("egret: %v", err)
	}
	if s.w.t.Failed() {
		s.w.t.Logf("egret's log:\n%s", s.text())
	}
}

// curl returns the status and the body.
func (s *service) curl(url string) (status, body string) {
	s.w.t.Helper()
	cmd := exec.Command("curl", "-sS", "--max-time", "20", "-w", "\n%{http_code}", url)
	cmd.Env = []string{"HTTPS_PROXY=http://" + s.address, "CURL_CA_BUNDLE=" + s.w.file("ca.pem"), "PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.w.t.Fatalf("curl: %v: %s", err, out)
	}
	i := bytes.LastIndexByte(out, '\n')
	return string(out[i+1:]), string(out[:i])
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
	s.end()
	w.await("the revocation of the client token", func() bool { return w.tokens() == 0 })
	for _, where := range []string{s.text(), string(must(os.ReadFile(w.file("audit.jsonl"))))} {
		if strings.Contains(where, "hvs.") || strings.Contains(where, "top-secret") || strings.Contains(where, "eyJ") {
			t.Error("MUST C9: a secret is in a log or record")
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
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
