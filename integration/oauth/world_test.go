// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package oauth

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/saas"
)

const (
	issuerHost = "as.egret.test"
	issuerName = "https://" + issuerHost
	apiHost    = "api.egret.test"
	secretText = "hush+secret:%20&=1234567890abcdef"
	waitTime   = 30 * time.Second
)

// egretVar names the program under test to the tests.
const egretVar = "EGRET_OAUTH_TEST_PROGRAM"

func TestMain(m *testing.M) { os.Exit(main(m)) }

func main(m *testing.M) int {
	dir, err := os.MkdirTemp("", "egret-oauth-bin-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "egret")
	if err := testbed.BuildEgret(bin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_ = os.Setenv(egretVar, bin)
	return m.Run()
}

var workload = spiffeid.RequireFromString("spiffe://acme.example/dashboard")

// world is everything around egret: a Workload API, the authorization server, and an API
// that keeps what it is sent.
type world struct {
	t      *testing.T
	dir    string
	socket string // of the Workload API
	ca     *saas.CA
	asAddr string
	api    *httptest.Server

	mu    sync.Mutex
	shown http.Header             // of the last request to the API
	certs []*x509.Certificate     // of its connection
	logs  map[string]*testbed.Log // by program
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir, err := os.MkdirTemp("", "egret-oauth-") // socket paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t: t, dir: dir, logs: map[string]*testbed.Log{}}
	t.Cleanup(func() {
		for name, log := range w.logs {
			if t.Failed() {
				t.Logf("%s:\n%s", name, log)
			}
		}
	})
	if w.ca, err = saas.NewCA(); err != nil {
		t.Fatal(err)
	}
	w.write("roots.pem", w.ca.PEM())
	w.serveAPI()
	return w
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, text []byte) {
	w.t.Helper()
	if err := os.WriteFile(w.file(name), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// start runs a program until the test ends, and returns its standard output.
func (w *world) start(name string, cmd *exec.Cmd) io.Reader {
	w.t.Helper()
	log := &testbed.Log{}
	w.logs[name] = log
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = w.dir, log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatalf("%s: %v", name, err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return io.TeeReader(out, log)
}

// serveAPI is the destination: it asks for a client certificate and takes what comes.
func (w *world) serveAPI() {
	cert, err := w.ca.Certificate(apiHost)
	if err != nil {
		w.t.Fatal(err)
	}
	w.api = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.shown, w.certs = r.Header.Clone(), r.TLS.PeerCertificates
		w.mu.Unlock()
		_, _ = io.WriteString(rw, "served")
	}))
	w.api.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
	w.api.StartTLS()
	w.t.Cleanup(w.api.Close)
}

func (w *world) last() (http.Header, []*x509.Certificate) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shown, w.certs
}

// serveIssuer starts oidc-provider, which trusts the bundles of the Workload API.
func (w *world) serveIssuer() {
	w.t.Helper()
	folder := testbed.Built(w.t, "../build/oauth.sh")
	script, err := os.ReadFile("node/server.mjs")
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("server.mjs", script)
	if err := os.Symlink(filepath.Join(folder, "node_modules"), w.file("node_modules")); err != nil {
		w.t.Fatal(err)
	}
	w.write("settings.json", w.settings())
	cmd := exec.Command("node", "server.mjs", "settings.json")
	line, err := bufio.NewReader(w.start("oidc-provider", cmd)).ReadString('\n')
	port, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		w.t.Fatalf("oidc-provider: %q, %v", line, err)
	}
	w.asAddr = "127.0.0.1:" + port
}

func (w *world) settings() []byte {
	keys, roots := w.bundles()
	w.write("svid-roots.pem", roots)
	cert, err := w.ca.Certificate(issuerHost)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("as.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
	w.write("as.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	w.write("secret", []byte(secretText+"\n"))
	text, err := json.Marshal(map[string]any{
		"issuer": issuerName, "secret": secretText, "spiffeID": workload.String(), "cert": "as.pem", "key": "as.key", "roots": "svid-roots.pem",
		"svidKeys": json.RawMessage(keys), "clientKeys": w.clientKey(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// clientKey makes the key of private_key_jwt, and returns its public half.
func (w *world) clientKey() jose.JSONWebKeySet {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("client.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}}
}

// bundles are what relying parties verify SVIDs by.
func (w *world) bundles() (keys, roots []byte) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), waitTime)
	defer cancel()
	addr := workloadapi.WithAddr(w.socket)
	jwt, err := workloadapi.FetchJWTBundles(ctx, addr)
	if err != nil {
		w.t.Fatal(err)
	}
	b, ok := jwt.Get(workload.TrustDomain())
	if !ok {
		w.t.Fatal("no JWT bundle")
	}
	set := jose.JSONWebKeySet{}
	for id, key := range b.JWTAuthorities() {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: key, KeyID: id})
	}
	if keys, err = json.Marshal(set); err != nil {
		w.t.Fatal(err)
	}
	x, err := workloadapi.FetchX509Context(ctx, addr)
	if err != nil {
		w.t.Fatal(err)
	}
	xb, ok := x.Bundles.Get(workload.TrustDomain())
	if !ok {
		w.t.Fatal("no X.509 bundle")
	}
	if roots, err = xb.Marshal(); err != nil {
		w.t.Fatal(err)
	}
	return keys, roots
}

// issuer calls an endpoint of the authorization server as any client does.
func (w *world) issuer(path string, form url.Values) (int, map[string]any) {
	w.t.Helper()
	c := &http.Client{Timeout: waitTime, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool(), MinVersion: tls.VersionTLS12},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, w.asAddr)
		},
	}}
	defer c.CloseIdleConnections()
	resp, err := c.PostForm(issuerName+path, form)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	var o map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&o)
	return resp.StatusCode, o
}

// active asks the issuer about a token that it has given.
func (w *world) active(token string) bool {
	w.t.Helper()
	status, o := w.issuer("/token/introspection", url.Values{"token": {token}, "client_id": {"post"}, "client_secret": {secretText}})
	if status != http.StatusOK {
		w.t.Fatalf("introspection: %d, %v", status, o)
	}
	return o["active"] == true
}

// egret is a running `egret run`.
type egret struct {
	*testbed.Egret
	w *world
}

const settingsText = `listeners:
  - {name: apps, address: "127.0.0.1:0", kind: forward, identify: {sidecar: {sameUser: true}}}
spiffe: {workloadAPI: %q, trustDomains: [acme.example]}
certs: {issuer: {ephemeral: {bundle: ca.pem}}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
log: {format: json, level: debug}
limits: {drain: 2s}
`

// sub runs a subtest in the same world.
func (w *world) sub(name string, f func(t *testing.T)) {
	outer := w.t
	outer.Run(name, func(t *testing.T) {
		w.t = t
		defer func() { w.t = outer }()
		f(t)
	})
}

// run starts egret with one credential, which is what its provider says.
func (w *world) run(provider string) *egret {
	w.t.Helper()
	w.write("egret.yaml", fmt.Appendf(nil, settingsText, w.socket))
	w.write("policy.yaml", fmt.Appendf(nil, policyText, apiHost, w.api.Listener.Addr(), w.file("roots.pem"), provider, w.asAddr, w.file("roots.pem"), workload))
	cmd := exec.Command(os.Getenv(egretVar), "run", "-c", "egret.yaml")
	cmd.Dir = w.dir
	return &egret{testbed.Run(w.t, cmd), w}
}

// curl asks the API through egret, and returns status and body.
func (e *egret) curl() (status, body string) {
	e.w.t.Helper()
	return testbed.Curl(e.w.t, e.Address("apps"), e.w.file("ca.pem"), "https://"+apiHost+"/v2/items")
}

const policyText = `apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: items}
spec: {hosts: [%s], dial: %q, allowPrivate: [127.0.0.0/8], tls: {roots: %q}}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: token}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [items]
  usableBy: [dashboard]
  provider: {oauth2: {%s, endpoint: {dial: %q, roots: %q, allowPrivate: [127.0.0.0/8]}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: dashboard}
spec: {spiffeID: %q, owner: qa@acme.example, purpose: tests, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: reads}
spec:
  owner: qa@acme.example
  workload: dashboard
  destination: items
  credential: token
  allow: [{methods: [GET], paths: [/v2/items]}]
  expires: 2090-12-31
`
