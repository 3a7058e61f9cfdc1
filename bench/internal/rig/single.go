// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"cmp"
	"context"
	"net/http"
)

// Domain is the trust domain, and what all destinations are names of.
const Domain = domain

// Alone starts the origin and nothing else; whoever asks for it starts egret with Spawn.
func Alone(ctx context.Context, o Options) (*Rig, error) {
	r := newRig(o)
	if err := r.keys(); err != nil {
		return nil, err
	}
	if err := r.startOrigin(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// Address is where a target listens; empty if it does not run.
func (r *Rig) Address(target string) string {
	if target == Direct {
		return r.address
	}
	i := r.instance(target)
	if i == nil {
		return ""
	}
	w := i.ways[target]
	return cmp.Or(w.proxy, w.dial)
}

// File is the path of a file of the rig's, such as origin-ca.pem and token.
func (r *Rig) File(name string) string { return r.file(name) }

// Program is a process that its starter ends.
type Program struct{ p *process }

// Spawn starts a program in dir.
func Spawn(ctx context.Context, dir, path string, args ...string) (Program, error) {
	p, err := launch(ctx, command{dir: dir, argv: append([]string{path}, args...)})
	return Program{p}, err
}

// PID is the process.
func (p Program) PID() int { return p.p.pid() }

// Said is the end of what it wrote to standard error.
func (p Program) Said() string { return p.p.said.String() }

// Close stops it and waits for its end.
func (p Program) Close() { p.p.end() }

// Run runs a program in dir to its end.
func Run(ctx context.Context, dir string, argv ...string) error {
	_, err := output(ctx, dir, nil, argv...)
	return err
}

// FreeAddresses are ports of loopback that nobody has now.
func FreeAddresses(n int) ([]string, error) { return freeAddresses(n) }

// Up reports whether a URL is answered with 200.
func Up(ctx context.Context, client *http.Client, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
