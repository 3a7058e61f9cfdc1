// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/peers"
)

// TestPolicyHasWhatTheReportNames counts; that egret loads it is proved where it is run.
func TestPolicyHasWhatTheReportNames(t *testing.T) {
	for _, c := range []struct{ grants, workloads int }{{1, 1}, {10, 1}, {1234, 124}} {
		text := node{origin: "127.0.0.1:3"}.policy(c.grants)
		// The sidecar's workload, gRPC and the tunnel come on top.
		for kind, want := range map[string]int{"AccessPolicy": c.grants + 3, "Workload": c.workloads + 1, "Destination": targets + 2, "Credential": 1} {
			if got := strings.Count(text, "kind: "+kind+"\n"); got != want {
				t.Errorf("%d grants have %d documents of kind %s, want %d", c.grants, got, kind, want)
			}
		}
	}
}

func TestLeafIsForItsHost(t *testing.T) {
	ca, err := newCA("origin")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.leaf(Host)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	if _, err := leaf.cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: Host}); err != nil {
		t.Error(err)
	}
	if _, err := leaf.cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "elsewhere.test"}); err == nil {
		t.Error("the certificate is good for another host")
	}
}

func TestProcessesThatDoNotStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	script := filepath.Join(t.TempDir(), "sick")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho it is ill >&2\necho hello\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	sick := command{argv: []string{script}}
	if _, _, err := listening(ctx, sick); err == nil || !strings.Contains(err.Error(), `sick did not start: it said "hello": it is ill`) {
		t.Errorf("a program that does not listen gives %v", err)
	}
	p, err := launch(ctx, sick)
	if err != nil {
		t.Fatal(err)
	}
	never := func(context.Context) bool { return false }
	if err := p.until(ctx, time.Millisecond, never); err == nil || !strings.Contains(err.Error(), "it ended: it is ill") {
		t.Errorf("a program that ends while it is waited for gives %v", err)
	}
	p.end()
	if _, err := output(ctx, "", nil, script); err == nil || !strings.Contains(err.Error(), "exit status 3: it is ill") {
		t.Errorf("a program that fails gives %v", err)
	}
	if _, _, err := listening(ctx, command{argv: []string{"/nowhere/at/all"}}); err == nil {
		t.Error("a program that is not there has started")
	}
}

// TestEndLeavesNothing: a program whose child pays no heed to the end of its parent.
func TestEndLeavesNothing(t *testing.T) {
	script := filepath.Join(t.TempDir(), "parent")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsh -c 'trap \"\" TERM; echo listening $$; while :; do sleep 0.05; done' 2>/dev/null &\ntrap 'exit 0' TERM\nwhile :; do sleep 0.05; done\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p, said, err := listening(t.Context(), command{argv: []string{script}})
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(said[0])
	if err != nil {
		t.Fatal(err)
	}
	p.end()
	for end := time.Now().Add(10 * time.Second); syscall.Kill(child, 0) == nil && alive(child); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d outlives its parent", child)
		}
	}
}

// alive reports whether a process is more than an entry that nobody has waited for.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

func TestTailKeepsTheEnd(t *testing.T) {
	var s tail
	for range 100 {
		_, _ = s.Write([]byte(strings.Repeat("x", 100)))
	}
	_, _ = s.Write([]byte("end\n"))
	if got := s.String(); len(got) > tailSize || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-8):])
	}
}

func TestAim(t *testing.T) {
	self := &process{cmd: &exec.Cmd{Process: &os.Process{Pid: 7}}}
	r := &Rig{opt: Options{Dir: "/d"}, token: "t", address: "o:1", grpc: "o:2", origin: &process{cmd: &exec.Cmd{Process: &os.Process{Pid: 1}}}}
	r.running = map[string]*instance{}
	for target, w := range map[string]way{
		Goproxy: {proxy: "g:3", roots: "g.pem"}, Egret: {proxy: "e:4", roots: "e.pem"}, Nginx: {dial: "n:5", roots: "n.pem"},
		Haproxy: {dial: "h:6"}, Squid: {proxy: "s:7", roots: "s.pem", port: true},
	} {
		r.running[target] = &instance{process: self, ways: map[string]way{target: w}}
	}
	const area = "https://api-00.bench.example/v1/area-00/7"
	for _, c := range []struct {
		name, target string
		spec, want   load.Spec
	}{
		{"direct", Direct, load.Spec{}, load.Spec{URL: area, Dial: "o:1", Roots: "/d/origin-ca.pem", Token: "t"}},
		{"a proxy", Goproxy, load.Spec{}, load.Spec{URL: area, Proxy: "http://g:3", Roots: "g.pem"}},
		{"a server", Nginx, load.Spec{}, load.Spec{URL: area, Dial: "n:5", Roots: "n.pem"}},
		{"one that leads no name", Squid, load.Spec{}, load.Spec{URL: "https://api-00.bench.example:1/v1/area-00/7", Proxy: "http://s:7", Roots: "s.pem"}},
		{"direct gRPC", Direct, load.Spec{Kind: load.GRPC}, load.Spec{URL: "https://grpc.bench.example", Dial: "o:2", Roots: "/d/origin-ca.pem", Token: "t"}},
		{"gRPC", Egret, load.Spec{Kind: load.Stream}, load.Spec{URL: "https://grpc.bench.example", Proxy: "http://e:4", Roots: "e.pem"}},
		{"a WebSocket", Egret, load.Spec{Kind: load.WebSocket}, load.Spec{URL: "https://api-00.bench.example/v1/area-00/ws", Proxy: "http://e:4", Roots: "e.pem"}},
		{"a tunnel", Egret, load.Spec{Tunnel: true}, load.Spec{URL: "https://tunnel.bench.example/v1/area-00/7", Proxy: "http://e:4", Roots: "/d/origin-ca.pem", Token: "t"}},
		{"a tunnel without CONNECT", Haproxy, load.Spec{Tunnel: true}, load.Spec{URL: "https://tunnel.bench.example/v1/area-00/7", Dial: "h:6", Roots: "/d/origin-ca.pem", Token: "t"}},
	} {
		c.spec.Bytes = 7
		c.want.Bytes, c.want.Kind, c.want.Tunnel = 7, c.spec.Kind, c.spec.Tunnel
		c.want.PIDs = map[string]int{"origin": 1}
		if c.target != Direct {
			c.want.PIDs["proxy"] = 7
		}
		if d := cmp.Diff(c.want, r.Aim(c.spec, c.target)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestTargets(t *testing.T) {
	for _, name := range Names() {
		about, files := About(name)
		if about == "" {
			t.Errorf("%s says nothing about itself", name)
		}
		for _, f := range files {
			if _, err := peers.Text(f); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s := specs()[name]; s.start == nil != (name == Direct) {
			t.Errorf("%s can be started: %v", name, s.start != nil)
		}
	}
	if len(specs()) != len(Names()) {
		t.Errorf("%d targets, %d names", len(specs()), len(Names()))
	}
	if len(Missing(Egret)) != 0 {
		t.Error("egret is built here, nothing of it can be missing")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := find("no-such-program"); err == nil {
		t.Error("a program that is not there is found")
	}
	if err := (&Rig{}).Restart(t.Context(), "walk"); err == nil || !strings.Contains(err.Error(), `target "walk" is not one of`) {
		t.Errorf("a target that nobody knows gives %v", err)
	}
}

// TestCan holds who carries what: nobody is compared in what it cannot do.
func TestCan(t *testing.T) {
	plain := load.Spec{Proto: load.H1, Conns: 16}
	h2 := load.Spec{Proto: load.H2, Conns: 16}
	rpc := load.Spec{Proto: load.H2, Kind: load.GRPC}
	tunnel := load.Spec{Proto: load.H1, Tunnel: true}
	crowd := load.Spec{Proto: load.H1, Hold: true, Conns: 9000}
	for target, want := range map[string][]bool{ // plain, h2, rpc, tunnel, crowd
		Direct: {true, true, true, true, false}, Egret: {true, true, true, true, true}, Sidecar: {true, true, false, false, false},
		Nginx: {true, true, true, false, true}, Haproxy: {false, false, false, true, false}, Squid: {true, false, false, false, true},
		Goproxy: {true, true, false, false, true}, GoproxyPlain: {true, true, false, false, true}, Mitmproxy: {true, true, false, false, false},
	} {
		for i, s := range []load.Spec{plain, h2, rpc, tunnel, crowd} {
			if got := Can(target, s); got != want[i] {
				t.Errorf("%s, load %d: %v", target, i, got)
			}
		}
	}
}
