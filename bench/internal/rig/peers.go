// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/egret-proxy/egret/bench/peers"
)

// peer is a program of Debian while it is being started.
type peer struct {
	r       *Rig
	dir     string
	program string
	values  peers.Values
	as      *syscall.Credential
}

// newPeer finds the program and a port for it, and gives it what it verifies the origin
// with.
func (r *Rig) newPeer(dir, program string) (*peer, error) {
	path, err := find(program)
	if err != nil {
		return nil, err
	}
	free, err := freeAddresses(1)
	if err != nil {
		return nil, err
	}
	p := &peer{r: r, dir: dir, program: path, values: peers.Values{
		Dir: dir, Address: free[0], Origin: r.address, GRPC: r.grpc, Host: Host, Token: r.token,
		Root: os.Geteuid() == 0, Workers: runtime.NumCPU(),
	}}
	roots, err := os.ReadFile(r.file("origin-ca.pem"))
	if err != nil {
		return nil, err
	}
	return p, p.write("origin-ca.pem", string(roots))
}

func (p *peer) file(name string) string { return filepath.Join(p.dir, name) }

func (p *peer) write(name, text string) error {
	return os.WriteFile(p.file(name), []byte(text), 0o600)
}

// settings fills in a file of package peers.
func (p *peer) settings(name string) error {
	text, err := peers.Render(name, p.values)
	if err != nil {
		return err
	}
	return p.write(filepath.Base(name), text)
}

// ca makes the CA that the peer intercepts with.
func (p *peer) ca() (pair, error) {
	ca, err := newCA("bench " + filepath.Base(p.program) + " CA")
	if err != nil {
		return ca, err
	}
	return ca, ca.write(p.dir, "ca")
}

// run starts the program and waits until it takes connections.
func (p *peer) run(ctx context.Context, w way, argv ...string) (*instance, error) {
	proc, err := launch(ctx, command{dir: p.dir, argv: append([]string{p.program}, argv...), as: p.as})
	if err != nil {
		return nil, err
	}
	if err := proc.until(ctx, 20*time.Millisecond, accepts(p.values.Address)); err != nil {
		proc.end()
		return nil, err
	}
	return &instance{process: proc, ways: map[string]way{targetOf(p.program): w}}, nil
}

// targetOf is the target that a program is.
func targetOf(program string) string {
	if name := filepath.Base(program); name != "mitmdump" {
		return name
	}
	return Mitmproxy
}

func startNginx(ctx context.Context, r *Rig, dir string) (*instance, error) {
	p, err := r.newPeer(dir, "nginx")
	if err != nil {
		return nil, err
	}
	ca, err := p.ca()
	if err != nil {
		return nil, err
	}
	leaf, err := ca.leaf("*." + domain)
	if err != nil {
		return nil, err
	}
	if err := leaf.write(dir, "leaf"); err != nil {
		return nil, err
	}
	if err := p.settings("nginx/nginx.conf"); err != nil {
		return nil, err
	}
	return p.run(ctx, way{dial: p.values.Address, roots: p.file("ca.pem")}, "-p", dir, "-e", "stderr", "-c", p.file("nginx.conf"))
}

func startHaproxy(ctx context.Context, r *Rig, dir string) (*instance, error) {
	p, err := r.newPeer(dir, "haproxy")
	if err != nil {
		return nil, err
	}
	if err := p.settings("haproxy/haproxy.cfg"); err != nil {
		return nil, err
	}
	return p.run(ctx, way{dial: p.values.Address}, "-db", "-f", p.file("haproxy.cfg"))
}

// startSquid starts it as its own user, since it refuses to run as root.
func startSquid(ctx context.Context, r *Rig, dir string) (*instance, error) {
	p, err := r.newPeer(dir, "squid")
	if err != nil {
		return nil, err
	}
	if p.values.Helper, err = find(certgen); err != nil {
		return nil, err
	}
	if _, err := p.ca(); err != nil {
		return nil, err
	}
	if err := p.write("hosts", "127.0.0.1 "+Host+"\n"); err != nil {
		return nil, err
	}
	if err := p.settings("squid/squid.conf"); err != nil {
		return nil, err
	}
	if _, err := output(ctx, dir, nil, p.values.Helper, "-c", "-s", p.file("certs"), "-M", "16MB"); err != nil {
		return nil, err
	}
	if p.values.Root {
		if p.as, err = handOver(dir, "proxy"); err != nil {
			return nil, err
		}
	}
	return p.run(ctx, way{proxy: p.values.Address, roots: p.file("ca.pem"), port: true}, "-N", "-f", p.file("squid.conf"))
}

// handOver gives a folder to a user, and returns what a program needs to be started as.
func handOver(dir, name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, gid)
	})
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

func startMitmproxy(ctx context.Context, r *Rig, dir string) (*instance, error) {
	p, err := r.newPeer(dir, "mitmdump")
	if err != nil {
		return nil, err
	}
	ca, err := p.ca()
	if err != nil {
		return nil, err
	}
	both, err := ca.both()
	if err != nil {
		return nil, err
	}
	if err := p.write("mitmproxy-ca.pem", both); err != nil {
		return nil, err
	}
	if err := p.settings("mitmproxy/inject.py"); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(p.values.Address)
	if err != nil {
		return nil, err
	}
	argv := []string{"--quiet", "--listen-host", host, "--listen-port", port, "--scripts", p.file("inject.py")}
	for _, option := range []string{
		"confdir=" + dir, "flow_detail=0", "connection_strategy=lazy", "stream_large_bodies=64k", "http2=true", "websocket=true", "onboarding=false", "server_replay_refresh=false",
		"ssl_verify_upstream_trusted_ca=" + p.file("origin-ca.pem"), "tls_version_client_min=TLS1_3", "tls_version_server_min=TLS1_3",
	} {
		argv = append(argv, "--set", option)
	}
	return p.run(ctx, way{proxy: p.values.Address, roots: p.file("ca.pem")}, argv...)
}

// startGoproxy starts the peer of this module.
func startGoproxy(flags ...string) func(ctx context.Context, r *Rig, dir string) (*instance, error) {
	target := Goproxy
	if len(flags) > 0 {
		target = GoproxyPlain
	}
	return func(ctx context.Context, r *Rig, dir string) (*instance, error) {
		ca, err := newCA("bench goproxy CA")
		if err != nil {
			return nil, err
		}
		if err := ca.write(dir, "ca"); err != nil {
			return nil, err
		}
		argv := append([]string{r.bin("goproxy"), "-ca-cert", "ca.pem", "-ca-key", "ca.key", "-roots", r.file("origin-ca.pem"),
			"-dial", r.address, "-authorization", "Bearer " + r.token}, flags...)
		p, addresses, err := listening(ctx, command{dir: dir, argv: argv})
		if err != nil {
			return nil, fmt.Errorf("%w (was it built from this tree?)", err)
		}
		return &instance{process: p, ways: map[string]way{target: {proxy: addresses[0], roots: filepath.Join(dir, "ca.pem")}}}, nil
	}
}
