// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/examples/local"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// The people of the story.
const (
	dashboardID = "spiffe://acme.example/ns/qa/sa/dashboard"
	agentID     = "spiffe://acme.example/ns/qa/sa/build-agent"
	reportID    = "spiffe://acme.example/ns/qa/sa/weekly-report"
	egretID     = "spiffe://acme.example/egret"
)

// twins are the SaaS of the story.
type twins struct {
	ca     *saas.CA
	server *saas.Server
	slack  *saas.Slack
	qase   *saas.Qase
	oauth  *saas.OAuth
	pager  *saas.Echo
	bots   *saas.Issuer  // Slack's tokens
	key    secret.Secret // the one static key, of Qase
}

func (d *Demo) startTwins(context.Context) error {
	t := &twins{bots: saas.NewIssuer(nil)}
	keys := saas.NewIssuer(nil)
	t.key = keys.Issue([]string{saas.QaseRead, saas.QaseWrite}, 0)
	t.slack = saas.NewSlack(saas.SlackConfig{Tokens: t.bots, Channels: []saas.Channel{{ID: "C0QA000001", Name: "qa"}}})
	t.qase = saas.NewQase(saas.QaseConfig{Tokens: keys})
	t.pager = saas.NewEcho(saas.EchoConfig{Tokens: saas.NewIssuer(nil)})
	t.oauth = saas.NewOAuth(saas.OAuthConfig{
		Issuer: "https://auth.acme.example", Tokens: t.bots, Bundles: &d.bundles,
		Clients: []saas.Client{{ID: "nightly-dashboard", SpiffeID: spiffeid.RequireFromString(dashboardID), Scopes: []string{"chat:write"}}},
	})
	down := saas.NewOAuth(saas.OAuthConfig{Issuer: "https://identity.pagerduty.com", TokenPath: "/oauth/token", Tokens: saas.NewIssuer(nil)})
	down.SetOutage(saas.Hangup)
	var err error
	if t.ca, err = saas.NewCA(); err != nil {
		return err
	}
	t.server, err = saas.Listen(t.ca,
		saas.Host{Name: "slack.com", Handler: t.slack}, saas.Host{Name: "api.qase.io", Handler: t.qase},
		saas.Host{Name: "auth.acme.example", Handler: t.oauth}, saas.Host{Name: "identity.pagerduty.com", Handler: down},
		saas.Host{Name: "api.pagerduty.com", Handler: t.pager})
	if err != nil {
		return err
	}
	d.saas = t
	return nil
}

func (t *twins) close() { _ = t.server.Close() }

// writeFiles lays out policy and secrets as on a real node. The documents are those of
// examples/local, pointed at the twins.
func (d *Demo) writeFiles(context.Context) error {
	files, err := local.Render(local.Overlay{Dial: d.saas.server.Addr(), Roots: filepath.Join(d.dir, "twins.pem"), AllowPrivate: "127.0.0.0/8"})
	if err != nil {
		return err
	}
	files["twins.pem"] = d.saas.ca.PEM()
	files["secrets/qase-token"] = []byte(d.saas.key.Reveal() + "\n")
	files["secrets/pagerduty-client-secret"] = []byte("never-used\n")
	cert, key, err := listenerCert(d.saas.ca)
	if err != nil {
		return err
	}
	files["listener.pem"], files["listener.key"] = cert, key
	files["egret.yaml"] = []byte(d.settings())
	for name, text := range files {
		path := filepath.Join(d.dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// settings is the egret.yaml of the demo: a listener for the programs of this machine, and
// one for others.
func (d *Demo) settings() string {
	own, identify, entries := egretID, "process: {attestor: embedded, rootCgroup: true, hybrid: "+fmt.Sprint(d.callers.hybrid)+"}",
		fmt.Sprintf(", entries: [{spiffeID: %q, uids: [%d]}]", dashboardID, os.Geteuid())
	if d.callers.missing != nil {
		own, identify, entries = dashboardID, "sidecar: {sameUser: "+fmt.Sprint(runtime.GOOS == "linux")+"}", ""
	}
	return fmt.Sprintf(`listeners:
  - {name: local, address: 127.0.0.1:0, kind: forward, identify: {%s}}
  - {name: mesh, address: 127.0.0.1:0, kind: forward, tls: {cert: listener.pem, key: listener.key}, identify: {x509SVID: {}}}
spiffe: {trustDomains: [acme.example], embedded: {spiffeID: %q%s}}
certs: {issuer: {ephemeral: {}}}
admin: {socket: %q}
policy:
  paths:
    - {path: policy/platform}
    - {path: policy/teams/qa, scope: ["spiffe://acme.example/ns/qa/**"]}
audit: {file: audit.jsonl}
limits: {drain: 1s}
`, identify, own, entries, filepath.Join(d.dir, "admin.sock"))
}

// runningNode is egret, wired as by egret run.
type runningNode struct {
	*node.Running
	local, mesh string
	bundle      string // file that clients trust: egret's CA alone is enough here
	audit       string
}

func (d *Demo) startEgret(ctx context.Context) error {
	env := config.Env{}
	if runtime.GOOS != "linux" { // no network namespaces: the loopback is everybody's, and the demo says so
		env.GOOS, env.HostNetwork = "linux", func() bool { return false }
	}
	file := filepath.Join(d.dir, "egret.yaml")
	cfg, faults := config.LoadNode(file, env)
	if len(faults) > 0 {
		return faults
	}
	log := slog.New(slog.DiscardHandler)
	if d.opt.Verbose {
		log = slog.New(slog.NewTextHandler(d.opt.Stdout, nil))
	}
	n, err := node.New(node.Options{Config: cfg, File: file, Env: env, Version: d.opt.Version, Logger: log, Stdout: io.Discard})
	if err != nil {
		return err
	}
	r := &runningNode{Running: n.Start(ctx), audit: cfg.Audit.File, bundle: filepath.Join(d.dir, "bundle.pem")}
	r.local, r.mesh = n.Address("local").String(), n.Address("mesh").String()
	d.node = r
	if err := d.serveOthers(n.Issuer()); err != nil {
		return err
	}
	wait, stop := context.WithTimeout(ctx, 10*time.Second)
	defer stop()
	if _, err := r.Ready(wait); err != nil {
		return err
	}
	return os.WriteFile(r.bundle, n.CABundle(), 0o600)
}

// listenerCert makes the mesh listener's certificate: an ordinary one, for localhost.
func listenerCert(ca *saas.CA) (cert, key []byte, err error) {
	c, err := ca.Certificate("localhost")
	if err != nil {
		return nil, nil, err
	}
	return encodePair(c)
}

// recordOf waits for the record of a request, which is written a moment after its answer.
func (d *Demo) recordOf(ctx context.Context, id string) (audit.Record, bool) {
	for range 100 {
		if found, err := audit.Find(d.node.audit, id); err == nil && len(found) > 0 {
			return found[len(found)-1], true
		}
		select {
		case <-ctx.Done():
			return audit.Record{}, false
		case <-time.After(10 * time.Millisecond):
		}
	}
	return audit.Record{}, false
}

// records reads what has been recorded so far.
func (d *Demo) records() []audit.Record {
	b, err := os.ReadFile(d.node.audit)
	if err != nil {
		return nil
	}
	var out []audit.Record
	for _, line := range bytes.Split(bytes.TrimSpace(b), []byte("\n")) {
		var r audit.Record
		if json.Unmarshal(line, &r) == nil {
			out = append(out, r)
		}
	}
	return out
}
