// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package kube

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

const settings = `listeners:
  - name: pods
    address: "127.0.0.1:0"
    kind: forward
    identify:
      kubernetesToken:
        audience: egret.example
        id: "spiffe://acme.example/ns/{namespace}/sa/{serviceAccount}"
        server: %[1]q
        ca: %[2]q
        tokenFile: %[3]q
        node: node-1
        age: 1s
spiffe: {trustDomains: [acme.example], embedded: {spiffeID: "spiffe://acme.example/egret"}}
certs: {issuer: {ephemeral: {bundle: ca.pem}}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
log: {format: json, level: debug}
limits: {drain: 2s}
`

// web may read with the password of the Secret, and write with a token of robot.
const policyText = `apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: echo}
spec: {hosts: [api.example.com], dial: %[1]q, allowPrivate: [127.0.0.0/8], tls: {roots: %[2]q}}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: password}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [echo]
  usableBy: [web]
  provider:
    kubernetes:
      server: %[3]q
      tokenFile: %[4]q
      endpoint: {roots: %[5]q, allowPrivate: [127.0.0.1/32]}
      secret: {namespace: shop, name: db, key: password}
  inject: [{header: Authorization, value: "Bearer {token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: robot}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [echo]
  usableBy: [web]
  provider:
    kubernetes:
      server: https://kubernetes.default.svc
      tokenFile: %[4]q
      endpoint: {roots: %[5]q, dial: %[6]q}
      token: {namespace: shop, serviceAccount: robot, audiences: [https://api.example.com]}
  inject: [{header: Authorization, value: "Bearer {token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: web}
spec: {spiffeID: "spiffe://acme.example/ns/shop/sa/web", evidence: [token], owner: qa@acme.example, purpose: tests, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: reads}
spec: {owner: qa@acme.example, workload: web, destination: echo, credential: password, allow: [{methods: [GET], paths: [/**]}], expires: 2090-12-31}
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: writes}
spec: {owner: qa@acme.example, workload: web, destination: echo, credential: robot, allow: [{methods: [PUT], paths: [/**]}], expires: 2090-12-31}
`

// What the Secret holds, one after the other.
const (
	passwordOne = "first-password-of-the-shop"
	passwordTwo = "second-password-of-the-shop"
)

// reviewAge is how long egret believes a review (age), apiServerCache how long kube-apiserver
// itself goes on to vouch for a token whose pod is gone (its TokenSuccessCacheTTL).
const (
	reviewAge      = time.Second
	apiServerCache = 10 * time.Second
)

// service is a running egret with the API behind it.
type service struct {
	*testbed.Egret
	t    *testing.T
	dir  string
	echo *saas.Echo
}

func (w *world) egret(own string) *service {
	w.t.Helper()
	s := &service{t: w.t, dir: w.t.TempDir(), echo: saas.NewEcho(saas.EchoConfig{})}
	w.must(os.Chmod(s.dir, 0o700))
	bin := filepath.Join(s.dir, "egret")
	w.must(testbed.BuildEgret(bin))
	ca, err := saas.NewCA()
	w.must(err)
	up, err := saas.Listen(ca, saas.Host{Name: "api.example.com", Handler: s.echo})
	w.must(err)
	w.t.Cleanup(func() { _ = up.Close() })
	token := w.write("token-egret", own+"\n")
	for name, text := range map[string]string{
		"twin.pem":    string(ca.PEM()),
		"egret.yaml":  fmt.Sprintf(settings, w.url(), w.file("ca.pem"), token),
		"policy.yaml": fmt.Sprintf(policyText, up.Addr(), filepath.Join(s.dir, "twin.pem"), w.url(), token, w.file("ca.pem"), strings.TrimPrefix(w.url(), "https://")),
	} {
		w.must(os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600))
	}
	cmd := exec.Command(bin, "run", "-c", filepath.Join(s.dir, "egret.yaml"))
	cmd.Dir, cmd.Env = s.dir, []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.dir}
	s.Egret = testbed.Run(w.t, cmd)
	return s
}

// client is a pod's program that shows its token to the proxy.
func (s *service) client(token string) *http.Client {
	s.t.Helper()
	bundle, err := os.ReadFile(filepath.Join(s.dir, "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	via := &url.URL{Scheme: "http", Host: s.Address("pods")}
	tr := &http.Transport{Proxy: http.ProxyURL(via), TLSClientConfig: &tls.Config{RootCAs: roots}}
	if token != "" {
		tr.ProxyConnectHeader = http.Header{"Proxy-Authorization": {"Bearer " + token}}
	}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// ask returns the fingerprint of the credential that the origin has seen, or what went wrong.
func ask(c *http.Client, method string) string {
	req, err := http.NewRequest(method, "https://api.example.com/x", nil) //nolint:noctx // the client has a timeout
	if err != nil {
		return err.Error()
	}
	resp, err := c.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err
		}
		return err.Error()
	}
	defer resp.Body.Close()
	var seen struct{ Fingerprint string }
	if err := json.NewDecoder(resp.Body).Decode(&seen); err != nil || resp.StatusCode != http.StatusOK {
		return resp.Status + " " + resp.Header.Get("Egret-Decision")
	}
	return seen.Fingerprint
}

func fingerprint(s string) string { return secret.New(s).Fingerprint() }

// egretRun: pods are known by their real tokens, and served from the Secret and by
// TokenRequest; what ends a token ends what it opens within the age of a review.
func egretRun(t *testing.T, w *world, own string) {
	w.secret("shop", "db", map[string]string{"password": passwordOne})
	web := w.pod("shop", "web-0", "web")
	token := w.token("shop", "web", "web-0", web, "egret.example")
	s := w.egret(own)
	c := s.client(token)
	if got := ask(c, "GET"); got != fingerprint(passwordOne) {
		t.Fatalf("with the pod's token: %s", got)
	}
	if got := ask(c, "PUT"); !strings.HasPrefix(got, "sha256:") || got == fingerprint(passwordOne) {
		t.Errorf("with a minted token: %s", got)
	}
	w.await("the record", func() bool {
		return s.Recorded(`"workload":"spiffe://acme.example/ns/shop/sa/web"`, `"evidence":"token"`)
	})
	refusedTokens(t, w, s, token)
	rotated(t, w, c)
	ends(t, w, s, c)
	if s.Reveals(token, own, passwordOne, passwordTwo) {
		t.Error("MUST C9: a secret is in the log or the records")
	}
}

func refusedTokens(t *testing.T, w *world, s *service, good string) {
	t.Helper()
	node2 := w.do(http.MethodPost, "/api/v1/namespaces/shop/pods", named("v1", "Pod", "web-far", object{"spec": object{
		"serviceAccountName": "web", "nodeName": "node-2", "automountServiceAccountToken": false,
		"containers": []any{object{"name": "c", "image": "none"}},
	}}))["metadata"].(object)["uid"].(string)
	uid := w.do(http.MethodGet, "/api/v1/namespaces/shop/pods/web-0", nil)["metadata"].(object)["uid"].(string)
	head, sig := good[:strings.LastIndexByte(good, '.')+1], good[strings.LastIndexByte(good, '.')+1:]
	for name, token := range map[string]string{
		"none":                 "",
		"nonsense":             "nonsense",
		"changed signature":    head + strings.ToUpper(sig[:8]) + strings.ToLower(sig[8:16]) + sig[16:],
		"for the API server":   w.token("shop", "web", "web-0", uid, ownAudience),
		"for somebody else":    w.token("shop", "web", "web-0", uid, "other.example"),
		"bound to no pod":      w.token("shop", "web", "", "", "egret.example"),
		"of another node":      w.token("shop", "web", "web-far", node2, "egret.example"),
		"the administrator's":  admin,
		"of another namespace": w.token("egret", "egret", "egret-0", w.do(http.MethodGet, "/api/v1/namespaces/egret/pods/egret-0", nil)["metadata"].(object)["uid"].(string), "egret.example"),
	} {
		got := ask(s.client(token), "GET")
		if !strings.Contains(got, "Proxy Authentication Required") {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// rotated: a change of the Secret reaches the wire.
func rotated(t *testing.T, w *world, c *http.Client) {
	t.Helper()
	w.secret("shop", "db", map[string]string{"password": passwordTwo})
	begun := time.Now()
	w.await("the rotated password", func() bool { return ask(c, "GET") == fingerprint(passwordTwo) })
	t.Logf("a rotated Secret is on the wire after %s", time.Since(begun).Round(time.Millisecond))
}

// ends: on open connections and new ones alike.
func ends(t *testing.T, w *world, s *service, c *http.Client) {
	t.Helper()
	refused := func(c *http.Client) bool {
		got := ask(c, "GET")
		return strings.Contains(got, "identity/") || strings.Contains(got, "Proxy Authentication Required")
	}
	within := func(what string, c *http.Client) {
		t.Helper()
		begun := time.Now()
		w.await(what+" to be refused", func() bool { return refused(c) })
		took := time.Since(begun).Round(time.Millisecond)
		if t.Logf("%s is refused after %s", what, took); took > reviewAge+apiServerCache+2*time.Second {
			t.Errorf("%s: %s is too long", what, took)
		}
	}
	w.remove("/api/v1/namespaces/shop/pods/web-0")
	within("a deleted pod", c)
	w.pod("shop", "web-0", "web") // of the same name
	if !refused(c) {
		t.Error("a pod of the same name gives the old token its life back")
	}
	uid := w.pod("shop", "web-1", "web")
	token := w.token("shop", "web", "web-1", uid, "egret.example")
	c = s.client(token)
	if got := ask(c, "GET"); got != fingerprint(passwordTwo) {
		t.Fatalf("another pod: %s", got)
	}
	w.remove("/api/v1/namespaces/shop/serviceaccounts/web")
	within("a deleted service account", c)
	w.account("shop", "web")
	if !refused(s.client(token)) {
		t.Error("an account of the same name gives the old token its life back")
	}
}
