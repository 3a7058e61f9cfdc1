// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
)

// issue writes an intermediate for the destinations of the world, key first.
func issue(t *testing.T, w *nodetest.World, root *certs.CA) {
	t.Helper()
	issueFor(t, w, root, 0)
}

// issueFor is issue with a lifetime, 0 for that by default.
func issueFor(t *testing.T, w *nodetest.World, root *certs.CA, ttl time.Duration) {
	t.Helper()
	ca, err := root.Intermediate(certs.IntermediateOptions{Hosts: []string{"slack.com", "api.qase.io", "api.pagerduty.com"}, TTL: ttl})
	check(t, err)
	key, err := ca.EncodeKey()
	check(t, err)
	check(t, w.Write("key.pem", string(key)))
	check(t, w.Write("chain.pem", string(ca.EncodeChain())))
}

// fileWorld has a CA in files.
func fileWorld(t *testing.T) (*nodetest.World, *certs.CA) {
	t.Helper()
	w := newWorld(t, embedded.Options{})
	root, err := certs.NewRoot(certs.RootOptions{Domains: []string{"slack.com", "qase.io", "pagerduty.com"}})
	check(t, err)
	issue(t, w, root)
	edit(t, w, "egret.yaml", "{ephemeral: {}}", "{file: [{chain: chain.pem, key: key.pem}]}")
	return w, root
}

// issuerOf returns the intermediate that signs for a host now.
func (e *egret) issuerOf(host string) string {
	e.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(e.CABundle())
	tr := &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: e.Address("sidecar").String()}),
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DisableKeepAlives: true,
	}
	resp, err := (&http.Client{Transport: tr}).Get("https://" + host + "/v1/project")
	check(e.t, err)
	check(e.t, resp.Body.Close())
	return resp.TLS.PeerCertificates[0].Issuer.String()
}

// TestIntermediatesAreFollowed: egret ca issue --replace is enough.
func TestIntermediatesAreFollowed(t *testing.T) {
	t.Parallel()
	w, root := fileWorld(t)
	e := start(t, w).ready()
	first := e.issuerOf("api.qase.io")
	_, err := e.Reload()
	check(t, err)
	if got := e.issuerOf("api.qase.io"); got != first {
		t.Errorf("a reload changed the issuer to %s", got)
	}
	issue(t, w, root)
	eventually(t, "the new intermediate", func() bool { return e.issuerOf("api.qase.io") != first })
	second := e.issuerOf("api.qase.io")
	check(t, w.Write("chain.pem", "broken"))
	eventually(t, "the failed load", func() bool { return e.metric("egret_policy_reload_success") == "0" })
	if got := e.issuerOf("api.qase.io"); got != second {
		t.Errorf("a broken chain changed the issuer to %s", got)
	}
}

// An intermediate that has ended makes egret not ready, and the log says so once, however
// many connections fail for it; a new one mends it.
func TestAnIntermediateThatHasEnded(t *testing.T) {
	t.Parallel()
	w, root := fileWorld(t)
	issueFor(t, w, root, 4*time.Second)
	e := start(t, w).ready()
	if status, text := e.page("/readyz"); status != http.StatusOK || !strings.Contains(text, "ca: degraded: an intermediate of the CA ends in ") {
		t.Errorf("while it lives: %d %s", status, text)
	}
	eventually(t, "the end", func() bool { status, _ := e.page("/readyz"); return status == http.StatusServiceUnavailable })
	if _, text := e.page("/readyz"); !strings.Contains(text, "ca: failed: an intermediate of the CA has ended, at 2") {
		t.Error(text)
	}
	for range 3 {
		if a := ask(t, e.client("sidecar"), projects); a.status != 0 {
			t.Errorf("served: %+v", a)
		}
	}
	eventually(t, "the records", func() bool { return strings.Count(e.records(), `"reason":"no_certificate"`) >= 3 })
	eventually(t, "the log", func() bool { return strings.Contains(e.log.String(), "the CA cannot sign for all its hosts") })
	if n := strings.Count(e.log.String(), "has ended, at"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if text := e.records(); strings.Contains(text, `leaf for \"api.qase.io\": leaf for`) || !strings.Contains(text, `leaf for \"api.qase.io\": the intermediate has expired at`) {
		t.Error(text)
	}
	issue(t, w, root)
	eventually(t, "a new intermediate", func() bool { status, _ := e.page("/readyz"); return status == http.StatusOK })
	if a := ask(t, e.client("sidecar"), projects); a.status != http.StatusOK {
		t.Errorf("with a new one: %+v", a)
	}
}

// Of several intermediates one that has ended is told, and the others serve: egret stays
// ready.
func TestOneOfSeveralIntermediatesHasEnded(t *testing.T) {
	t.Parallel()
	w, root := fileWorld(t)
	ca, err := root.Intermediate(certs.IntermediateOptions{Hosts: []string{"files.slack.com"}, TTL: 3 * time.Second})
	check(t, err)
	key, err := ca.EncodeKey()
	check(t, err)
	check(t, w.Write("key2.pem", string(key)))
	check(t, w.Write("chain2.pem", string(ca.EncodeChain())))
	edit(t, w, "egret.yaml", "key: key.pem}]", "key: key.pem}, {chain: chain2.pem, key: key2.pem}]")
	e := start(t, w).ready()
	eventually(t, "the end", func() bool { _, text := e.page("/readyz"); return strings.Contains(text, "has ended, at") })
	if status, text := e.page("/readyz"); status != http.StatusOK || !strings.Contains(text, "ca: degraded: an intermediate") {
		t.Errorf("%d %s", status, text)
	}
	if a := ask(t, e.client("sidecar"), projects); a.status != http.StatusOK {
		t.Errorf("the other's host: %+v", a)
	}
}

// TestMUST_K2_HostsOutsideTheIntermediateAreFaults, with the command that helps.
func TestMUST_K2_HostsOutsideTheIntermediateAreFaults(t *testing.T) {
	t.Parallel()
	w, _ := fileWorld(t)
	edit(t, w, "policy/platform/destinations.yaml", "slack.com", "github.com")
	if _, _, err := build(t, w); err == nil || !strings.Contains(err.Error(), "egret ca issue --root DIR --host github.com") {
		t.Errorf("got %v", err)
	}
}

// TestMUST_T12_OwnCAIsNoUpstreamRoot: neither for the node nor for a destination.
func TestMUST_T12_OwnCAIsNoUpstreamRoot(t *testing.T) {
	t.Parallel()
	w, _ := fileWorld(t)
	edit(t, w, "policy/platform/destinations.yaml", filepath.Join(w.Dir, "twins.pem"), filepath.Join(w.Dir, "chain.pem"))
	if _, _, err := build(t, w); err == nil || !strings.Contains(err.Error(), "spec.tls.roots") {
		t.Errorf("a destination: %v", err)
	}
	w, _ = fileWorld(t)
	edit(t, w, "egret.yaml", "audit:", "upstream: {roots: chain.pem}\naudit:")
	if _, _, err := build(t, w); err == nil || !strings.Contains(err.Error(), "upstream.roots: ") {
		t.Errorf("the node: %v", err)
	}
}
