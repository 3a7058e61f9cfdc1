// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package nodetest is the world that tests run an egret in: twins of the SaaS APIs, a
// SPIFFE Workload API, and the policy of examples/local with its secrets, laid out in a
// folder as on a real node. Tests only.
package nodetest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/examples/local"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// The workloads of the policy in the folder.
const (
	Dashboard = "spiffe://acme.example/ns/qa/sa/dashboard"
	Agent     = "spiffe://acme.example/ns/qa/sa/build-agent"
)

// World is what is around an egret. Make it with New and Close it.
type World struct {
	Dir    string
	Issuer *embedded.Issuer
	CA     *saas.CA
	SaaS   *saas.Server
	Slack  *saas.Slack
	Qase   *saas.Qase
	OAuth  *saas.OAuth
	Bots   *saas.Issuer  // Slack's tokens
	Key    secret.Secret // the one static key, of Qase

	stopIdentity func()
	trusts       atomic.Pointer[jwtbundle.Source] // nil: Issuer
}

// Trust has the OAuth twin verify callers by another issuer's bundles.
func (w *World) Trust(s jwtbundle.Source) { w.trusts.Store(&s) }

// GetJWTBundleForTrustDomain implements jwtbundle.Source for the OAuth twin.
func (w *World) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	if s := w.trusts.Load(); s != nil {
		return (*s).GetJWTBundleForTrustDomain(td)
	}
	return w.Issuer.Bundles().GetJWTBundleForTrustDomain(td)
}

// New lays everything out in dir and starts the twins and the Workload API, which knows
// only the dashboard.
func New(dir string, o embedded.Options) (*World, error) {
	o.TrustDomain = spiffeid.RequireTrustDomainFromString("acme.example")
	iss, err := embedded.New(o)
	if err != nil {
		return nil, err
	}
	w := &World{Dir: dir, Issuer: iss, Bots: saas.NewIssuer(nil), stopIdentity: func() {}}
	if err := w.startTwins(); err != nil {
		return nil, err
	}
	if err := w.ServeIdentity(); err != nil {
		w.Close()
		return nil, err
	}
	if err := w.writeFiles(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends everything; the folder is the caller's.
func (w *World) Close() {
	w.stopIdentity()
	_ = w.SaaS.Close()
}

// Socket is where the Workload API is.
func (w *World) Socket() string { return filepath.Join(w.Dir, "spiffe", "agent.sock") }

// ServeIdentity starts the Workload API, again where it has been stopped.
func (w *World) ServeIdentity() error {
	srv, err := w.Issuer.Listen(w.Socket(), embedded.Entry{ID: spiffeid.RequireFromString(Dashboard)})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = srv.Serve(ctx) })
	w.stopIdentity = func() {
		cancel()
		running.Wait()
	}
	return nil
}

// StopIdentity takes the Workload API away.
func (w *World) StopIdentity() {
	w.stopIdentity()
	w.stopIdentity = func() {}
}

func (w *World) startTwins() (err error) {
	keys := saas.NewIssuer(nil)
	w.Key = keys.Issue([]string{saas.QaseRead, saas.QaseWrite}, 0)
	w.Slack = saas.NewSlack(saas.SlackConfig{Tokens: w.Bots, Channels: []saas.Channel{{ID: "C0QA000001", Name: "qa"}}})
	w.Qase = saas.NewQase(saas.QaseConfig{Tokens: keys})
	w.OAuth = saas.NewOAuth(saas.OAuthConfig{
		Issuer: "https://auth.acme.example", Tokens: w.Bots, Bundles: w,
		Clients: []saas.Client{{ID: "nightly-dashboard", SpiffeID: spiffeid.RequireFromString(Dashboard), Scopes: []string{"chat:write"}}},
	})
	if w.CA, err = saas.NewCA(); err != nil {
		return err
	}
	w.SaaS, err = saas.Listen(w.CA,
		saas.Host{Name: "slack.com", Handler: w.Slack}, saas.Host{Name: "api.qase.io", Handler: w.Qase},
		saas.Host{Name: "auth.acme.example", Handler: w.OAuth},
		saas.Host{Name: "api.pagerduty.com", Handler: saas.NewEcho(saas.EchoConfig{})})
	return err
}

func (w *World) writeFiles() error {
	files, err := local.Render(local.Overlay{Dial: w.SaaS.Addr(), Roots: filepath.Join(w.Dir, "twins.pem"), AllowPrivate: "127.0.0.0/8"})
	if err != nil {
		return err
	}
	files["twins.pem"] = w.CA.PEM()
	files["secrets/qase-token"] = []byte(w.Key.Reveal() + "\n")
	files["secrets/pagerduty-client-secret"] = []byte("pd-client-secret-never-used\n")
	if files["listener.pem"], files["listener.key"], err = w.pair("localhost"); err != nil {
		return err
	}
	files["egret.yaml"] = []byte(w.Settings())
	for name, text := range files {
		if err := w.Write(name, string(text)); err != nil {
			return err
		}
	}
	return nil
}

// Write puts a file into the folder.
func (w *World) Write(name, text string) error {
	path := filepath.Join(w.Dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o600)
}

// Settings is an egret.yaml with one sidecar listener, metrics and an admin socket.
func (w *World) Settings() string {
	return fmt.Sprintf(`listeners:
  - {name: sidecar, address: 127.0.0.1:0, kind: forward, identify: {sidecar: {sameUser: true}}}
spiffe: {trustDomains: [acme.example], workloadAPI: "unix://%s"}
certs: {issuer: {ephemeral: {}}}
admin: {socket: %s}
metrics: {address: 127.0.0.1:0}
policy:
  paths:
    - {path: policy/platform}
    - {path: policy/teams/qa, scope: ["spiffe://acme.example/ns/qa/**"]}
audit: {file: audit.jsonl}
limits: {drain: 2s}
`, w.Socket(), filepath.Join(w.Dir, "admin.sock"))
}

// pair is an ordinary certificate and its key, for an egret's own TLS listener.
func (w *World) pair(host string) (cert, key []byte, err error) {
	c, err := w.CA.Certificate(host)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
