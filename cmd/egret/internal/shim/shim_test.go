// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package shim

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/cmd/egret/internal/node"
	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// mesh is an egret with an x509SVID listener, and what leads to it.
type mesh struct {
	*nodetest.World
	t     testing.TB
	node  string // localhost:port of its listener
	roots *x509.CertPool
}

func newMesh(t *testing.T, o embedded.Options) *mesh {
	t.Helper()
	dir, err := os.MkdirTemp("", "egs") // short enough for sockets
	check(t, err)
	check(t, os.Chmod(dir, 0o755)) // another user's curl reads ca.pem
	w, err := nodetest.New(dir, o)
	check(t, err)
	t.Cleanup(func() {
		w.Close()
		_ = os.RemoveAll(dir)
	})
	settings := strings.Replace(w.Settings(), "listeners:\n",
		"listeners:\n  - {name: mesh, address: 127.0.0.1:0, kind: forward, tls: {cert: listener.pem, key: listener.key}, identify: {x509SVID: {}}}\n", 1)
	check(t, w.Write("egret.yaml", settings))
	const workloads = "policy/teams/qa/workloads.yaml"
	b, err := os.ReadFile(filepath.Join(dir, workloads))
	check(t, err)
	check(t, w.Write(workloads, strings.Replace(string(b), "  purpose: posts last", "  evidence: [x509-svid]\n  purpose: posts last", 1)))
	m := &mesh{World: w, t: t, roots: x509.NewCertPool()}
	m.roots.AppendCertsFromPEM(w.CA.PEM())
	m.run()
	return m
}

func (m *mesh) run() {
	file := filepath.Join(m.Dir, "egret.yaml")
	cfg, faults := config.LoadNode(file, config.Env{HostNetwork: func() bool { return false }})
	check(m.t, faults.Err())
	n, err := node.New(node.Options{Config: cfg, File: file, Logger: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	check(m.t, err)
	r := n.Start(m.t.Context())
	m.t.Cleanup(func() { check(m.t, r.Stop()) })
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	_, err = r.Ready(ctx)
	check(m.t, err)
	_, port, _ := net.SplitHostPort(n.Address("mesh").String())
	m.node = "localhost:" + port
	check(m.t, m.Write("ca.pem", string(n.CABundle())))
	check(m.t, os.Chmod(filepath.Join(m.Dir, "ca.pem"), 0o644))
}

func (m *mesh) options() Options {
	return Options{Node: m.node, Roots: m.roots, WorkloadAPI: "unix://" + m.Socket()}
}

func (m *mesh) start(o Options) *Shim {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	s, err := Start(ctx, o)
	check(m.t, err)
	m.t.Cleanup(s.Close)
	return s
}

// curl is a program that knows http:// proxies and no SPIFFE.
func (m *mesh) curl(s *Shim, attr *syscall.SysProcAttr) string {
	m.t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		m.t.Skipf("no curl: %v", err)
	}
	cmd := exec.CommandContext(m.t.Context(), path, "-sSv", "-m", "10", "-x", s.URL(), "--cacert", filepath.Join(m.Dir, "ca.pem"), "https://api.qase.io/v1/project")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{"PATH=" + os.Getenv("PATH")}, attr
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func (m *mesh) serves(s *Shim) bool { return strings.Contains(m.curl(s, nil), `"status":true`) }

func TestChildIsItsSVID(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{})
	s := m.start(m.options())
	if got := m.curl(s, nil); !strings.Contains(got, `"status":true`) {
		t.Fatalf("curl through the shim:\n%s", got)
	}
	b, _ := os.ReadFile(filepath.Join(m.Dir, "audit.jsonl"))
	for end := time.Now().Add(5 * time.Second); !strings.Contains(string(b), `"evidence":"x509-svid"`) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		b, _ = os.ReadFile(filepath.Join(m.Dir, "audit.jsonl"))
	}
	if !strings.Contains(string(b), nodetest.Dashboard) || !strings.Contains(string(b), `"evidence":"x509-svid"`) {
		t.Errorf("records: %s", b)
	}
}

// TestRotationIsFollowed: each connection has the SVID of its time, also when the
// authority that signs has changed.
func TestRotationIsFollowed(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{})
	s := m.start(m.options())
	first, err := s.source.certificate()
	check(t, err)
	check(t, m.Issuer.Rotate())
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		now, err := s.source.certificate()
		check(t, err)
		if !now.Leaf.Equal(first.Leaf) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the SVID is still the first one")
		}
	}
	if !m.serves(s) {
		t.Error("refused after the rotation")
	}
}

// TestOtherUsersAreRefused: the port is of one user, whoever else reaches it.
func TestOtherUsersAreRefused(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a program as another user")
	}
	m := newMesh(t, embedded.Options{})
	var mu sync.Mutex
	var notes []string
	o := m.options()
	o.Note = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, text)
	}
	s := m.start(o)
	other := &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4711}}
	for range 2 {
		if got := m.curl(s, other); strings.Contains(got, `"status":true`) || strings.Contains(got, "< HTTP/") || !strings.Contains(got, "CONNECT") {
			t.Errorf("another user got an answer:\n%s", got)
		}
	}
	if !m.serves(s) {
		t.Error("its own user is refused")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(notes) != 1 || !strings.Contains(notes[0], "uid 4711") {
		t.Errorf("notes: %q", notes)
	}
}

// TestWorkloadAPIGone: served until the SVID has ended, then refused and told why, and
// served again by itself.
func TestWorkloadAPIGone(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{X509TTL: 4 * time.Second})
	s := m.start(m.options())
	m.StopIdentity()
	if !m.serves(s) {
		t.Error("refused although the SVID has not ended")
	}
	gone := func(got string) bool {
		return strings.Contains(got, "HTTP/1.1 503 egret identity/source_unavailable") &&
			strings.Contains(got, "Egret-Decision: identity; reason=source_unavailable")
	}
	for end := time.Now().Add(15 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		got := m.curl(s, nil)
		if gone(got) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("without an SVID:\n%s", got)
		}
	}
	check(t, m.ServeIdentity())
	for end := time.Now().Add(15 * time.Second); !m.serves(s); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("refused although the Workload API is back")
		}
	}
}

func TestStartFaults(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{})
	for name, tc := range map[string]struct {
		break_ func(*Options)
		want   string
	}{
		"no node":         {func(o *Options) { o.Node = "localhost" }, "must be host:port"},
		"no socket":       {func(o *Options) { o.WorkloadAPI = "unix:///nonexistent/agent.sock" }, "no X.509-SVID to show to the node"},
		"odd address":     {func(o *Options) { o.WorkloadAPI = "/run/agent.sock" }, "unix:///path"},
		"somebody else's": {func(o *Options) { o.ID = spiffeid.RequireFromString("spiffe://acme.example/other") }, `none of "spiffe://acme.example/other"`},
	} {
		t.Run(name, func(t *testing.T) {
			o := m.options()
			tc.break_(&o)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if s, err := Start(ctx, o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v; want %q", s, err, tc.want)
			}
		})
	}
}

// connect sends a CONNECT and returns the answer.
func connect(t *testing.T, s *Shim) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("tcp", s.listener.Addr().String())
	check(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "CONNECT api.qase.io:443 HTTP/1.1\r\nHost: api.qase.io:443\r\n\r\n")
	check(t, err)
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodGet})
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	check(t, err)
	return resp, string(body)
}

// TestNodeIsVerified: no SVID is shown to a server that is not the node.
func TestNodeIsVerified(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{})
	for name, change := range map[string]func(*Options){
		"unknown roots": func(o *Options) { o.Roots = x509.NewCertPool() },
		"another name":  func(o *Options) { o.Node = strings.Replace(o.Node, "localhost", "127.0.0.1", 1) },
		"nobody there":  func(o *Options) { o.Node = "localhost:1" },
	} {
		t.Run(name, func(t *testing.T) {
			o := m.options()
			change(&o)
			resp, body := connect(t, m.start(o))
			if resp.StatusCode != http.StatusBadGateway || resp.Status != "502 egret shim/node_unreachable" || !strings.Contains(body, `"reason":"node_unreachable"`) {
				t.Errorf("%s: %s", resp.Status, body)
			}
		})
	}
}

// echo is a TLS server that sends back what it got, once the client has ended its half.
func echo(t *testing.T, m *mesh) string {
	t.Helper()
	cert, err := m.CA.Certificate("localhost")
	check(t, err)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAnyClientCert})
	check(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				_, _ = c.Write(b)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "localhost:" + port
}

// TestBytesAndHalfClose: bytes pass as they are, and so does an end.
func TestBytesAndHalfClose(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{})
	o := m.options()
	o.Node = echo(t, m)
	s := m.start(o)
	c, err := net.Dial("tcp", s.listener.Addr().String())
	check(t, err)
	defer c.Close()
	want := strings.Repeat("\x00\r\n\xffnot HTTP at all", 100_000)
	go func() {
		_, _ = io.WriteString(c, want)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	if err != nil || string(got) != want {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(want), err)
	}
}

// TestConnectionsAreBounded, and Close ends those that are open.
func TestConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMesh(t, embedded.Options{})
	o := m.options()
	o.Node, o.Connections = echo(t, m), 2
	s := m.start(o)
	var open []net.Conn
	for range 2 {
		c, err := net.Dial("tcp", s.listener.Addr().String())
		check(t, err)
		defer c.Close()
		open = append(open, c)
	}
	for end := time.Now().Add(5 * time.Second); len(s.places) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	c, err := net.Dial("tcp", s.listener.Addr().String())
	check(t, err)
	defer c.Close()
	if b, _ := io.ReadAll(c); !strings.HasPrefix(string(b), "HTTP/1.1 503 egret limit/too_many_connections\r\n") {
		t.Errorf("the third got %q", b)
	}
	s.Close()
	for _, c := range open {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("a connection outlives the shim: %v", err)
		}
	}
	if _, err := net.Dial("tcp", s.listener.Addr().String()); err == nil {
		t.Error("the port outlives the shim")
	}
}

// TestRefusalIsOneAnswer: whatever the cause quotes, it stays inside the body.
func TestRefusalIsOneAnswer(t *testing.T) {
	t.Parallel()
	b := noNode(fmt.Errorf("bad\r\nEgret-Decision: allow\r\n\r\n\x1b[2J")).bytes()
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(b))), nil)
	check(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.Header.Get("Egret-Decision") != "shim; reason=node_unreachable" || strings.ContainsAny(strings.TrimSuffix(string(body), "\n"), "\r\n\x1b") {
		t.Errorf("%v %q, %v", resp.Header, body, err)
	}
}
