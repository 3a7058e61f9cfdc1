// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package growth measures how egret's cost changes while connections, policies,
// destinations or workloads become many. For each number there is an egret of its own;
// all are there at once, and rounds go from one to the next, so that what the machine
// does meanwhile hits all places of a curve alike.
package growth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/rig"
	"github.com/egret-proxy/egret/identity/embedded"
)

const (
	audience = "bench-egret"
	tokenTTL = time.Hour
)

// world is what all of egret here share: the origin, who issues identities, whom clients
// trust. Callers come with JWT-SVIDs, because one process can be ten thousand workloads
// by them.
type world struct {
	dir, bin string
	origin   *rig.Rig
	issuer   *embedded.Issuer
	tls      *tls.Config
	stop     context.CancelFunc
	served   chan error
	nodes    []*node
}

// newWorld starts the origin and the Workload API in dir.
func newWorld(ctx context.Context, dir, bin string) (_ *world, err error) {
	w := &world{dir: dir, bin: bin}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if w.origin, err = rig.Alone(ctx, rig.Options{Dir: dir, Bin: bin}); err != nil {
		return nil, err
	}
	for _, args := range [][]string{
		{"ca", "init", "--domains", rig.Domain, "--out", "ca"},
		{"ca", "issue", "--root", "ca", "--host", rig.Domain, "--out", "issuer"},
	} {
		if err := rig.Run(ctx, dir, append([]string{filepath.Join(bin, "egret")}, args...)...); err != nil {
			return nil, err
		}
	}
	if err := w.trust(); err != nil {
		return nil, err
	}
	return w, w.identities(ctx)
}

// trust makes the clients' side of TLS; sessions are not resumed.
func (w *world) trust() error {
	pem, err := os.ReadFile(filepath.Join(w.dir, "ca", "ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return errors.New("ca.pem holds no certificate")
	}
	w.tls = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13, NextProtos: []string{"http/1.1"}}
	return nil
}

// identities serves the Workload API that every egret here takes its SVID and bundles
// from.
func (w *world) identities(ctx context.Context) error {
	var err error
	if w.issuer, err = embedded.New(embedded.Options{TrustDomain: spiffeid.RequireTrustDomainFromString(rig.Domain), X509TTL: 2 * time.Hour, CATTL: 24 * time.Hour}); err != nil {
		return err
	}
	s, err := w.issuer.Listen(filepath.Join(w.dir, "wl", "api.sock"), embedded.Entry{ID: spiffeid.RequireFromString("spiffe://" + rig.Domain + "/egret")})
	if err != nil {
		return err
	}
	ctx, w.stop = context.WithCancel(ctx)
	w.served = make(chan error, 1)
	go func() { w.served <- s.Serve(ctx) }()
	return nil
}

// token is what a workload shows in Proxy-Authorization.
func (w *world) token(workload int) (string, error) {
	t, err := w.issuer.MintJWT(spiffeid.RequireFromString(workloadID(workload)), audience, tokenTTL)
	if err != nil {
		return "", err
	}
	return t.Reveal(), nil
}

func (w *world) close() {
	for _, n := range w.nodes {
		n.program.Close()
	}
	if w.stop != nil {
		w.stop()
		<-w.served
	}
	if w.origin != nil {
		w.origin.Close()
	}
}

// node is one egret.
type node struct {
	address string
	program rig.Program
	ready   time.Duration // from its start until /readyz answered 200
}

// setting is what tells one egret of the growth from another.
type setting struct {
	name     string
	policies []string // texts of the files
	leaves   int      // certificates that it keeps; default 20,000
}

const settings = `listeners:
  - {name: bench, address: %q, kind: forward, identify: {jwtSVID: {audience: %s, maxTTL: 24h}}}
spiffe: {trustDomains: [%s], workloadAPI: "unix://%s"}
metrics: {address: %q}
certs: {issuer: {file: [{chain: ../issuer/chain.pem, key: ../issuer/key.pem}]}}
policy: {paths: [%s]}
audit: {file: audit.jsonl}
log: {level: warn}
limits: {connections: 20000, connectionsPerWorkload: 20000, idleUpstream: 20000, leaves: %d}
`

// start starts an egret in a folder of its own and waits until it is ready.
func (w *world) start(ctx context.Context, s setting) (*node, error) {
	dir := filepath.Join(w.dir, s.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	free, err := rig.FreeAddresses(2)
	if err != nil {
		return nil, err
	}
	var paths []string
	for i, text := range s.policies {
		name := fmt.Sprintf("policy-%d.yaml", i)
		paths = append(paths, "{path: "+name+"}")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if s.leaves == 0 {
		s.leaves = 20000
	}
	text := fmt.Sprintf(settings, free[0], audience, rig.Domain, filepath.Join(w.dir, "wl", "api.sock"), free[1], strings.Join(paths, ", "), s.leaves)
	if err := os.WriteFile(filepath.Join(dir, "egret.yaml"), []byte(text), 0o600); err != nil {
		return nil, err
	}
	n := &node{address: free[0]}
	return n, w.launch(ctx, n, dir, free[1])
}

func (w *world) launch(ctx context.Context, n *node, dir, metrics string) (err error) {
	began := time.Now()
	if n.program, err = rig.Spawn(ctx, dir, filepath.Join(w.bin, "egret"), "run", "-c", "egret.yaml"); err != nil {
		return err
	}
	w.nodes = append(w.nodes, n)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for !rig.Up(ctx, client, "http://"+metrics+"/readyz") {
		if _, err := host.Resident(n.program.PID()); err != nil || ctx.Err() != nil {
			return fmt.Errorf("egret did not start: %w: %s", errors.Join(err, context.Cause(ctx)), n.program.Said())
		}
		time.Sleep(time.Millisecond)
	}
	n.ready = time.Since(began)
	return nil
}

// drop ends one egret before the others.
func (w *world) drop(n *node) {
	for i, other := range w.nodes {
		if other == n {
			w.nodes = append(w.nodes[:i], w.nodes[i+1:]...)
			n.program.Close()
			return
		}
	}
}
