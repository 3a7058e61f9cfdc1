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

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
)

// issue writes an intermediate for the destinations of the world, key first.
func issue(t *testing.T, w *nodetest.World, root *certs.CA) {
	t.Helper()
	ca, err := root.Intermediate(certs.IntermediateOptions{Hosts: []string{"slack.com", "api.qase.io", "api.pagerduty.com"}})
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
