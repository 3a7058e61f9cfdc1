// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// startEgret issues an intermediate, writes settings and policy, and waits for /readyz.
func startEgret(ctx context.Context, r *Rig, dir string) (*instance, error) {
	for _, args := range [][]string{
		{"ca", "init", "--domains", domain, "--out", "ca"},
		{"ca", "issue", "--root", "ca", "--host", domain, "--out", "issuer"},
	} {
		if _, err := output(ctx, dir, nil, append([]string{r.bin("egret")}, args...)...); err != nil {
			return nil, err
		}
	}
	free, err := freeAddresses(3)
	if err != nil {
		return nil, err
	}
	n := node{process: free[0], sidecar: free[1], metrics: free[2], origin: r.address, grpc: r.grpc, shared: r.opt.Dir}
	for name, text := range map[string]string{"egret.yaml": n.yaml(), "policy.yaml": n.policy(r.opt.Grants)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	p, err := launch(ctx, command{dir: dir, argv: []string{r.bin("egret"), "run", "-c", "egret.yaml"}})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ready := func(ctx context.Context) bool { return Up(ctx, client, "http://"+n.metrics+"/readyz") }
	if err := p.until(ctx, 20*time.Millisecond, ready); err != nil {
		p.end()
		return nil, err
	}
	roots := filepath.Join(dir, "ca/ca.pem")
	return &instance{process: p, ways: map[string]way{
		Egret: {proxy: n.process, roots: roots}, Sidecar: {proxy: n.sidecar, roots: roots},
	}}, nil
}

// freeAddresses finds ports that nobody has now, for programs that take no port 0.
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
