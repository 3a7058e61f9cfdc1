// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package rig builds and starts what is measured: the origin, egret as `egret run` with
// a policy of many grants, and the peers. Each is a process of its own, and so is the
// load.
package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/origin"
)

// Options say what is started.
type Options struct {
	Dir     string   // scratch folder; records, keys and settings go there
	Bin     string   // folder with the programs of Build
	Bench   string   // this program, for origin and load; default: that in Bin
	Grants  int      // access policies that egret has loaded
	Targets []string // what is started besides the origin; default: Goproxy and Egret
}

// Rig is the running processes. Close it when done. It is not for several goroutines.
type Rig struct {
	opt     Options
	token   string
	origin  *process
	address string // of the origin
	grpc    string // of the origin's gRPC server
	running map[string]*instance
	starts  int
	counts  *http.Client
}

// instance is a target that was started.
type instance struct {
	process *process
	ways    map[string]way // to the targets that it is: egret is two
}

// way is how the load reaches a target.
type way struct {
	proxy string // address of a proxy that takes CONNECT, or
	dial  string // address of a server that answers for the origin
	roots string // PEM file with what signs its certificates
	port  bool   // the URL must name the origin's port: the target leads no name elsewhere
}

// Plain and Release are commands for Build: with what the build cache holds after go
// test, and as `make build` does.
func Plain() []string { return []string{"go", "build"} }

// Release is Plain without cgo, symbols and paths.
func Release() []string {
	return []string{"env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags=-s -w"}
}

// Build compiles programs of this module into dir: those named, or egret, bench and
// goproxy.
func Build(ctx context.Context, dir string, compile []string, names ...string) error {
	out, err := output(ctx, "", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/egret-proxy/egret")
	if err != nil {
		return err
	}
	module := string(bytes.TrimSpace(out))
	for name, pkg := range map[string]string{"egret": "./cmd/egret", "bench": "./bench", "goproxy": "./bench/peers/goproxy"} {
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		if _, err := output(ctx, module, nil, slices.Concat(compile, []string{"-o", filepath.Join(dir, name), pkg})...); err != nil {
			return err
		}
	}
	return nil
}

// Start starts everything and returns when each answers. Cancelling ctx ends it all.
func Start(ctx context.Context, o Options) (_ *Rig, err error) {
	r := newRig(o)
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	// Peers may run as another user, who must be able to pass.
	if err := os.Chmod(o.Dir, 0o711); err != nil { //nolint:gosec // nobody may list it, and what is in it is 0600
		return nil, err
	}
	if err := r.keys(); err != nil {
		return nil, err
	}
	if err := r.startOrigin(ctx); err != nil {
		return nil, err
	}
	for _, t := range r.opt.Targets {
		if r.instance(t) == nil && t != Direct {
			if err := r.Restart(ctx, t); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func newRig(o Options) *Rig {
	if o.Bench == "" {
		o.Bench = filepath.Join(o.Bin, "bench")
	}
	if len(o.Targets) == 0 {
		o.Targets = []string{Goproxy, Egret}
	}
	return &Rig{opt: o, running: map[string]*instance{}}
}

// Restart ends a target, if it runs, and starts it anew: what it has in memory is then
// none of an earlier load's doing. Other targets that are the same process are too.
func (r *Rig) Restart(ctx context.Context, target string) error {
	if target == Direct {
		return nil
	}
	spec, ok := specs()[target]
	if !ok {
		return fmt.Errorf("target %q is not one of %v", target, Names())
	}
	if i := r.instance(target); i != nil {
		i.process.end()
		maps.DeleteFunc(r.running, func(_ string, other *instance) bool { return other == i })
	}
	r.starts++
	dir := r.file(fmt.Sprintf("%s-%d", target, r.starts))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	i, err := spec.start(ctx, r, dir)
	if err != nil {
		return fmt.Errorf("%s: %w", target, err)
	}
	for name := range i.ways {
		r.running[name] = i
	}
	return nil
}

func (r *Rig) instance(target string) *instance { return r.running[target] }

// Close ends the processes that were started.
func (r *Rig) Close() {
	if r.counts != nil {
		r.counts.CloseIdleConnections()
	}
	for _, i := range r.running {
		i.process.end()
	}
	clear(r.running)
	if r.origin != nil {
		r.origin.end()
	}
}

func (r *Rig) file(name string) string { return filepath.Join(r.opt.Dir, name) }
func (r *Rig) bin(name string) string  { return filepath.Join(r.opt.Bin, name) }

// keys makes the credential and the origin's certificate.
func (r *Rig) keys() error {
	b := make([]byte, 20)
	_, _ = rand.Read(b)
	r.token = hex.EncodeToString(b)
	if err := os.WriteFile(r.file("token"), []byte(r.token+"\n"), 0o600); err != nil {
		return err
	}
	ca, err := newCA("bench origin CA")
	if err != nil {
		return err
	}
	leaf, err := ca.leaf("*." + domain)
	if err != nil {
		return err
	}
	if err := ca.write(r.opt.Dir, "origin-ca"); err != nil {
		return err
	}
	return leaf.write(r.opt.Dir, "origin")
}

func (r *Rig) startOrigin(ctx context.Context) error {
	p, addresses, err := listening(ctx, command{dir: r.opt.Dir, argv: []string{r.opt.Bench, "origin", "-cert", "origin.pem", "-key", "origin.key", "-token-file", "token", "-grpc", "127.0.0.1:0"}})
	if err != nil {
		return err
	}
	r.origin = p
	if len(addresses) != 2 {
		return fmt.Errorf("the origin listens at %q, want two addresses", addresses)
	}
	r.address, r.grpc = addresses[0], addresses[1]
	pem, err := os.ReadFile(r.file("origin-ca.pem"))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	r.counts = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: Host, MinVersion: tls.VersionTLS13},
	}}
	return nil
}

// Aim completes a load for a target: how it is reached, whom the client trusts, and
// whose CPU time is read.
func (r *Rig) Aim(s load.Spec, target string) load.Spec {
	s.PIDs = map[string]int{}
	if r.origin != nil {
		s.PIDs["origin"] = r.origin.pid()
	}
	w := way{dial: r.address, roots: r.file("origin-ca.pem")}
	if s.Kind == load.GRPC || s.Kind == load.Stream {
		w.dial = r.grpc
	}
	if i := r.instance(target); i != nil {
		w = i.ways[target]
		s.PIDs["proxy"] = i.process.pid()
	}
	if target == Direct || s.Tunnel {
		s.Token, w.roots = r.token, r.file("origin-ca.pem")
	}
	s.Roots, s.Dial = w.roots, w.dial
	if w.proxy != "" {
		s.Proxy = "http://" + w.proxy
	}
	s.URL = r.url(s, w.port)
	return s
}

// url is what a load asks for.
func (r *Rig) url(s load.Spec, withPort bool) string {
	host, path := Host, fmt.Sprintf("%s%d", Area, s.Bytes)
	switch {
	case s.Tunnel:
		host = TunnelHost
	case s.Kind == load.WebSocket:
		path = Area + origin.WebSocketPath
	case s.Kind != load.HTTP:
		host, path = GRPCHost, ""
	}
	if withPort {
		host += r.address[bytes.LastIndexByte([]byte(r.address), ':'):]
	}
	return "https://" + host + path
}

// Load runs one window in a process of its own.
func (r *Rig) Load(ctx context.Context, s load.Spec) (res load.Result, err error) {
	in, err := json.Marshal(s)
	if err != nil {
		return res, err
	}
	out, err := output(ctx, r.opt.Dir, bytes.NewReader(in), r.opt.Bench, "load")
	if err != nil {
		return res, err
	}
	return res, json.Unmarshal(out, &res)
}

// Counts asks the origin what it has seen.
func (r *Rig) Counts(ctx context.Context) (c origin.Counts, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.address+origin.CountsPath, nil)
	if err != nil {
		return c, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	resp, err := r.counts.Do(req)
	if err != nil {
		return c, err
	}
	defer resp.Body.Close()
	return c, json.NewDecoder(resp.Body).Decode(&c)
}

// PID is the process of a target; 0 if it does not run.
func (r *Rig) PID(target string) int {
	if i := r.instance(target); i != nil {
		return i.process.pid()
	}
	return 0
}
