// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/proxy"
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		perform()
		return
	}
	goleak.VerifyTestMain(m)
}

// podEnv is a network namespace of the workload's own.
func podEnv() config.Env { return config.Env{HostNetwork: func() bool { return false }} }

// buffer is a log that can be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newWorld is a world in a folder whose name is short enough for sockets.
func newWorld(t testing.TB, o embedded.Options) *nodetest.World {
	t.Helper()
	dir, err := os.MkdirTemp("", "egn")
	check(t, err)
	w, err := nodetest.New(dir, o)
	check(t, err)
	t.Cleanup(func() {
		w.Close()
		_ = os.RemoveAll(dir)
	})
	return w
}

// egret is a running node.
type egret struct {
	*Running
	t     testing.TB
	world *nodetest.World
	log   *buffer
}

// build makes a node of the world's egret.yaml.
func build(t testing.TB, w *nodetest.World, adapt ...func(*Options)) (*Node, *buffer, error) {
	t.Helper()
	file := filepath.Join(w.Dir, "egret.yaml")
	cfg, faults := config.LoadNode(file, podEnv())
	check(t, faults.Err())
	log := &buffer{}
	o := Options{Config: cfg, File: file, Env: podEnv(), Logger: slog.New(slog.NewTextHandler(log, nil)), Stdout: io.Discard}
	for _, f := range adapt {
		f(&o)
	}
	n, err := New(o)
	return n, log, err
}

// start runs a node of the world's egret.yaml until the test's end.
func start(t testing.TB, w *nodetest.World, adapt ...func(*Options)) *egret {
	t.Helper()
	n, log, err := build(t, w, adapt...)
	check(t, err)
	e := &egret{Running: n.Start(t.Context()), t: t, world: w, log: log}
	t.Cleanup(func() {
		if err := e.Stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(log)
		}
	})
	return e
}

func (e *egret) ready() *egret {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), 10*time.Second)
	defer cancel()
	_, err := e.Ready(ctx)
	check(e.t, err)
	return e
}

// client goes through a listener, as a workload does.
func (e *egret) client(listener string) *http.Client {
	e.t.Helper()
	addr := e.Address(listener)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CABundle())
	tr := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: "egret.invalid:1"}),
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, addr.Network(), addr.String())
		},
	}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// answer is what a caller gets: the decision is empty where it was allowed, and holds
// the error where the CONNECT itself was refused.
type answer struct {
	status   int
	decision string
}

func ask(t testing.TB, c *http.Client, url string) answer {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		return answer{0, err.Error()}
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return answer{resp.StatusCode, resp.Header.Get("Egret-Decision")}
}

const projects = "https://api.qase.io/v1/project"

func (a answer) is(layer, reason string) bool {
	return strings.Contains(a.decision, layer) && strings.Contains(a.decision, reason)
}

// page reads one page of the metrics listener.
func (e *egret) page(path string) (int, string) {
	e.t.Helper()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get("http://" + e.MetricsAddress().String() + path)
	check(e.t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	check(e.t, err)
	return resp.StatusCode, string(b)
}

// metric returns the line of a metric without its name.
func (e *egret) metric(name string) string {
	_, text := e.page("/metrics")
	for _, l := range strings.Split(text, "\n") {
		if v, ok := strings.CutPrefix(l, name+" "); ok {
			return v
		}
	}
	return ""
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// edit replaces text in a file of the world.
func edit(t testing.TB, w *nodetest.World, name, old, new string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.Dir, name))
	check(t, err)
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q", name, old)
	}
	check(t, w.Write(name, strings.ReplaceAll(string(b), old, new)))
}

// echoPolicy lets the dashboard GET at the echo twin, called api.pagerduty.com; dial is
// where it is.
func echoPolicy(w *nodetest.World, dial, methods string) string {
	return fmt.Sprintf(`apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: echo}
spec: {hosts: [api.pagerduty.com], dial: %q, allowPrivate: [127.0.0.0/8], tls: {roots: %q}}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: token}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [echo]
  usableBy: [%q]
  provider: {static: {value: {file: %q}}}
  inject: [{header: Authorization, value: "Bearer {token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: dashboard}
spec: {spiffeID: %[3]q, owner: qa@acme.example, purpose: tests, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: reads}
spec:
  owner: qa@acme.example
  workload: dashboard
  destination: echo
  credential: token
  allow: [{methods: [%[5]s], paths: [/**]}]
  expires: 2090-12-31
`, dial, filepath.Join(w.Dir, "twins.pem"), nodetest.Dashboard, filepath.Join(w.Dir, "secrets", "qase-token"), methods)
}

// route is the way to a destination that is dialled at a fixed address.
func (e *egret) route(host, dial string) proxy.Route {
	return proxy.Route{Host: host, Port: 443, Dial: dial, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}
