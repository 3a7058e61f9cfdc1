// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package rig builds and starts what is measured: the origin, egret as `egret run` with
// a policy of many grants, and goproxy's own MITM. Each is a process of its own, and so
// is the load.
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
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/origin"
)

// Targets, in the order in which a round visits them.
const (
	Direct  = "direct"
	Goproxy = "goproxy"
	Egret   = "egret"
)

// Options say what is started.
type Options struct {
	Dir    string // scratch folder; records, keys and settings go there
	Bin    string // folder with the programs of Build
	Grants int    // access policies that egret has loaded
}

// Rig is the running processes. Close it when done.
type Rig struct {
	opt       Options
	token     string
	address   map[string]string // of each target; Direct is the origin
	pids      map[string]int
	processes []*process
	counts    *http.Client
}

// Plain and Release are commands for Build: with what the build cache holds after go
// test, and as `make build` does.
func Plain() []string { return []string{"go", "build"} }
func Release() []string {
	return []string{"env", "CGO_ENABLED=0", "go", "build", "-trimpath", "-ldflags=-s -w"}
}

// Build compiles the programs of this module into dir.
func Build(ctx context.Context, dir string, compile []string) error {
	out, err := output(ctx, "", nil, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/egret-proxy/egret")
	if err != nil {
		return err
	}
	module := string(bytes.TrimSpace(out))
	for name, pkg := range map[string]string{"egret": "./cmd/egret", "bench": "./bench", "goproxy": "./bench/peers/goproxy"} {
		if _, err := output(ctx, module, nil, slices.Concat(compile, []string{"-o", filepath.Join(dir, name), pkg})...); err != nil {
			return err
		}
	}
	return nil
}

// Start starts everything and returns when each answers. Cancelling ctx ends it all.
func Start(ctx context.Context, o Options) (_ *Rig, err error) {
	r := &Rig{opt: o, address: map[string]string{}, pids: map[string]int{}}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	for _, step := range []func(context.Context) error{r.keys, r.startOrigin, r.startGoproxy, r.startEgret} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// Close ends the processes that were started.
func (r *Rig) Close() {
	if r.counts != nil {
		r.counts.CloseIdleConnections()
	}
	for i := len(r.processes) - 1; i >= 0; i-- {
		r.processes[i].end()
	}
	r.processes = nil
}

func (r *Rig) file(name string) string { return filepath.Join(r.opt.Dir, name) }
func (r *Rig) bin(name string) string  { return filepath.Join(r.opt.Bin, name) }

// keys makes the credential, the origin's certificate and goproxy's CA.
func (r *Rig) keys(context.Context) error {
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
	peer, err := newCA("bench goproxy CA")
	if err != nil {
		return err
	}
	for name, p := range map[string]pair{"origin-ca": ca, "origin": leaf, "goproxy-ca": peer} {
		if err := p.write(r.opt.Dir, name); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rig) keep(target string, p *process, address string) {
	r.processes = append(r.processes, p)
	r.address[target], r.pids[target] = address, p.cmd.Process.Pid
}

func (r *Rig) startOrigin(ctx context.Context) error {
	p, address, err := listening(ctx, r.opt.Dir, r.bin("bench"), "origin", "-cert", "origin.pem", "-key", "origin.key", "-token-file", "token")
	if err != nil {
		return err
	}
	r.keep(Direct, p, address)
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

func (r *Rig) startGoproxy(ctx context.Context) error {
	p, address, err := listening(ctx, r.opt.Dir, r.bin("goproxy"), "-ca-cert", "goproxy-ca.pem", "-ca-key", "goproxy-ca.key",
		"-roots", "origin-ca.pem", "-dial", r.address[Direct], "-authorization", "Bearer "+r.token)
	if err != nil {
		return err
	}
	r.keep(Goproxy, p, address)
	return nil
}

// startEgret issues an intermediate, writes settings and policy, and waits for /readyz.
func (r *Rig) startEgret(ctx context.Context) error {
	for _, args := range [][]string{
		{"ca", "init", "--domains", domain, "--out", "ca"},
		{"ca", "issue", "--root", "ca", "--host", domain, "--out", "issuer"},
	} {
		if _, err := output(ctx, r.opt.Dir, nil, append([]string{r.bin("egret")}, args...)...); err != nil {
			return err
		}
	}
	free, err := freeAddresses(2)
	if err != nil {
		return err
	}
	n := node{proxy: free[0], metrics: free[1], origin: r.address[Direct]}
	for name, text := range map[string]string{"egret.yaml": n.yaml(), "policy.yaml": n.policy(r.opt.Grants)} {
		if err := os.WriteFile(r.file(name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	p, _, err := launch(ctx, r.opt.Dir, r.bin("egret"), "run", "-c", "egret.yaml")
	if err != nil {
		return err
	}
	r.keep(Egret, p, n.proxy)
	if err := ready(ctx, "http://"+n.metrics+"/readyz"); err != nil {
		return fmt.Errorf("egret did not start: %w: %s", err, p.said.String())
	}
	return nil
}

// freeAddresses finds ports that nobody has now; egret run takes no inherited listener
// without systemd.
func freeAddresses(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() //nolint:revive // held until all are found, so that they differ
		out = append(out, l.Addr().String())
	}
	return out, nil
}

func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Aim completes a load for a target: how it is reached, whom the client trusts, and
// whose CPU time is read.
func (r *Rig) Aim(s load.Spec, target string) load.Spec {
	s.URL = fmt.Sprintf("https://%s%s%d", Host, Area, s.Bytes)
	s.PIDs = map[string]int{"origin": r.pids[Direct]}
	switch target {
	case Direct:
		s.Dial, s.Roots, s.Token = r.address[Direct], r.file("origin-ca.pem"), r.token
		return s
	case Goproxy:
		s.Roots = r.file("goproxy-ca.pem")
	default:
		s.Roots = r.file("ca/ca.pem")
	}
	s.Proxy, s.PIDs["proxy"] = "http://"+r.address[target], r.pids[target]
	return s
}

// Load runs one window in a process of its own.
func (r *Rig) Load(ctx context.Context, s load.Spec) (res load.Result, err error) {
	in, err := json.Marshal(s)
	if err != nil {
		return res, err
	}
	out, err := output(ctx, r.opt.Dir, bytes.NewReader(in), r.bin("bench"), "load")
	if err != nil {
		return res, err
	}
	return res, json.Unmarshal(out, &res)
}

// Counts asks the origin what it has seen.
func (r *Rig) Counts(ctx context.Context) (c origin.Counts, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+r.address[Direct]+origin.CountsPath, nil)
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

// PID is the process of a target.
func (r *Rig) PID(target string) int { return r.pids[target] }
