// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity/embedded"
)

// TestNewLeavesNothingBehind: whatever is taken, New says what, and the rest is free
// again. goleak watches the goroutines.
func TestNewLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	for name, tc := range map[string]struct{ old, new, want string }{
		"metrics":  {"metrics: {address: 127.0.0.1:0}", "metrics: {address: " + taken.Addr().String() + "}", "metrics.address: listen tcp"},
		"listener": {"address: 127.0.0.1:0, kind", "address: " + taken.Addr().String() + ", kind", `listener "sidecar": listen tcp`},
		"admin":    {"/admin.sock", "/egret.yaml", "exists and is not a socket"},
		"systemd":  {"address: 127.0.0.1:0, kind", "address: systemd:web, kind", "FileDescriptorName=web"},
		"audit":    {"audit: {file: audit.jsonl}", "audit: {file: /dev/null}", "audit.file: "},
	} {
		w := newWorld(t, embedded.Options{})
		b, err := os.ReadFile(filepath.Join(w.Dir, "egret.yaml"))
		check(t, err)
		check(t, w.Write("egret.yaml", strings.Replace(string(b), tc.old, tc.new, 1)))
		if _, _, err := build(t, w); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		if _, err := os.Stat(filepath.Join(w.Dir, "admin.sock")); err == nil {
			t.Errorf("%s: the admin socket is left", name)
		}
		check(t, w.Write("egret.yaml", string(b)))
		n, _, err := build(t, w)
		if err != nil {
			t.Errorf("%s: a second try without the fault: %v", name, err)
			continue
		}
		if err := n.Start(t.Context()).Stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMUST_P2_MetricsAreNobodysUpstream: neither by address nor by a destination that
// is dialled there.
func TestMUST_P2_MetricsAreNobodysUpstream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	at := free.Addr().String()
	check(t, free.Close())
	check(t, w.Write("policy/platform/echo.yaml", strings.ReplaceAll(strings.Split(echoPolicy(w, at, "GET"), "kind: Credential")[0], "api.pagerduty.com", "metrics.example")+
		"kind: Destination\nmetadata: {name: unused}\nspec: {hosts: [unused.example]}\n"))
	edit(t, w, "egret.yaml", "metrics: {address: 127.0.0.1:0}", "metrics: {address: "+at+"}")
	e := start(t, w).ready()
	if _, err := e.dialer.DialContext(t.Context(), e.route("metrics.example", at)); err == nil || !strings.Contains(err.Error(), "own") {
		t.Errorf("dialling egret's metrics: %v", err)
	}
	for _, url := range []string{"https://" + at + "/metrics", "https://" + e.Address("sidecar").String() + "/"} {
		if got := ask(t, e.client("sidecar"), url); got.status != 0 || !strings.Contains(got.decision, "target/") {
			t.Errorf("%s: %+v", url, got)
		}
	}
	for path, want := range map[string]int{"/metrics": 200, "/livez": 200, "/readyz": 200, "/version": 200, "/": 404, "/debug/pprof/": 404, "/v1/reload": 404} {
		if status, _ := e.page(path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
}

func TestReaches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		to, listener string
		want         bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "127.0.0.1:81", false},
		{"127.0.0.2:80", "127.0.0.1:80", false},
		{"[::ffff:127.0.0.1]:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"127.9.9.9:80", "[::]:80", true},
		{"0.0.0.0:80", "[::]:80", true},
		{"192.0.2.1:80", "[::]:80", false},
	} {
		addr := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(tc.listener))
		if got := reaches(netip.MustParseAddrPort(tc.to), addr); got != tc.want {
			t.Errorf("%s at %s: %v", tc.to, tc.listener, got)
		}
	}
	if reaches(netip.MustParseAddrPort("127.0.0.1:80"), &net.UnixAddr{Name: "/x", Net: "unix"}) {
		t.Error("a unix socket is reached by TCP")
	}
}

// TestUnixListener: for its own user only, and the socket goes with egret.
func TestUnixListener(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	sock := filepath.Join(w.Dir, "proxy.sock")
	edit(t, w, "egret.yaml", "address: 127.0.0.1:0, kind", "address: \"unix://"+sock+"\", kind")
	stale, err := net.Listen("unix", sock)
	check(t, err)
	stale.(*net.UnixListener).SetUnlinkOnClose(false)
	if _, _, err := build(t, w); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("a socket in use: %v", err)
	}
	check(t, stale.Close())
	e := start(t, w).ready()
	if got := ask(t, e.client("sidecar"), projects); got.status != http.StatusOK {
		t.Errorf("over the socket: %+v", got)
	}
	if info, err := os.Stat(sock); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	check(t, e.Stop())
	if _, err := os.Lstat(sock); err == nil {
		t.Error("the socket is left")
	}
}

// TestDrainLetsRequestsEnd within the grace, and refuses new ones.
func TestDrainLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	w := volumeWorld(t)
	e := start(t, w).ready()
	c := e.client("sidecar")
	slow := make(chan answer, 1)
	go func() { slow <- ask(t, c, "https://api.pagerduty.com/slow/500ms") }()
	time.Sleep(200 * time.Millisecond)
	check(t, e.Stop())
	if got := <-slow; got.status != http.StatusOK {
		t.Errorf("in flight: %+v", got)
	}
	if got := ask(t, e.client("sidecar"), "https://api.pagerduty.com/"); got.status != 0 {
		t.Errorf("after the end: %+v", got)
	}
	if !strings.Contains(e.log.String(), "msg=drained cut=0") {
		t.Error("the log does not say how the drain went")
	}
}

// TestStoppedBeforeReady: SIGTERM comes before the Workload API answers.
func TestStoppedBeforeReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	w.StopIdentity()
	e := start(t, w)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Ready(ctx); err == nil || !strings.Contains(err.Error(), "egret has no identity: ") {
		t.Errorf("got %v", err)
	}
	begin := time.Now()
	check(t, e.Stop())
	if took := time.Since(begin); took > time.Second {
		t.Errorf("the end took %s", took)
	}
	if strings.Contains(e.log.String(), "msg=ready") {
		t.Error("it says that it was ready")
	}
}
