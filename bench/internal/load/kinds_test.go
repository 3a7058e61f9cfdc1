// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/origin"
)

// real starts the benchmark's own origin, over HTTPS and gRPC, and returns a load for it.
func real(t *testing.T) (s Spec, grpc string) {
	t.Helper()
	o := origin.New("right")
	server := httptest.NewUnstartedServer(o)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // connections end in the middle of windows
	server.StartTLS()
	t.Cleanup(server.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := o.GRPCServer(server.TLS.Certificates[0])
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return Spec{
		URL: "https://example.com/5", Dial: server.Listener.Addr().String(), Roots: roots, Token: "right", Proto: H1, Conns: 2, Bytes: 5,
		Warmup: 10 * time.Millisecond, Window: 80 * time.Millisecond, PIDs: map[string]int{},
	}, l.Addr().String()
}

// kinds are all that a load can be made of; each has its own way to open a connection.
func kinds(grpc string) map[string]func(*Spec) {
	return map[string]func(*Spec){
		"uploads over h1": func(s *Spec) { s.URL, s.Bytes, s.Upload = "https://example.com/0", 0, 100<<10 },
		"uploads over h2": func(s *Spec) { s.URL, s.Bytes, s.Upload, s.Proto = "https://example.com/0", 0, 100<<10, H2 },
		"gRPC":            func(s *Spec) { s.Kind, s.Proto, s.Dial, s.Streams = GRPC, H2, grpc, 3 },
		"gRPC stream":     func(s *Spec) { s.Kind, s.Proto, s.Dial, s.Times = Stream, H2, grpc, 7 },
		"WebSocket":       func(s *Spec) { s.Kind, s.URL = WebSocket, "https://example.com/ws" },
	}
}

func TestKinds(t *testing.T) {
	good, grpc := real(t)
	for name, set := range kinds(grpc) {
		t.Run(name, func(t *testing.T) {
			s := good
			set(&s)
			res := run(t, s)
			if res.Requests == 0 || res.Errors != 0 || res.Dials != 2 || res.Bytes < res.Requests || res.Latency.Count == 0 {
				t.Errorf("%+v", res)
			}
			s.Token = "wrong"
			if res, err := Run(t.Context(), s); err == nil && (res.Requests != 0 || res.Errors == 0) {
				t.Errorf("without the credential: %d answers, %d errors", res.Requests, res.Errors)
			}
		})
	}
}

// TestThroughAProxy: every kind asks for its tunnel, and says why where it gets none.
func TestThroughAProxy(t *testing.T) {
	good, grpc := real(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != "example.com:443" {
			t.Errorf("the proxy is asked %s %s", r.Method, r.Host)
		}
		http.Error(w, "no", http.StatusForbidden)
	}))
	t.Cleanup(refusing.Close)
	for name, set := range kinds(grpc) {
		s := good
		set(&s)
		s.Proxy = refusing.URL
		res, err := Run(t.Context(), s)
		if err == nil && (res.Requests != 0 || res.Errors == 0) {
			t.Errorf("%s: %d answers, %d errors", name, res.Requests, res.Errors)
		}
		if s.Kind == GRPC && !strings.Contains(res.Error, "CONNECT is answered 403 Forbidden") {
			t.Errorf("%s: %q", name, res.Error)
		}
	}
}

func TestResumed(t *testing.T) {
	s, _ := real(t)
	s.Fresh, s.Resume = true, true
	res := run(t, s)
	for res.Requests < 10 && s.Window < 20*time.Second { // a busy machine
		s.Window *= 4
		res = run(t, s)
	}
	if res.Errors != 0 || res.Resumed == 0 || res.Resumed < res.Requests-int64(s.Conns) {
		t.Errorf("%d of %d requests resumed a session: %+v", res.Resumed, res.Requests, res)
	}
	s.Resume = false
	if res := run(t, s); res.Resumed != 0 {
		t.Errorf("%d requests resumed a session", res.Resumed)
	}
}

func TestHold(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory of processes is read on Linux only")
	}
	s, _ := real(t)
	s.Hold, s.Conns, s.Settle = true, 40, 5*time.Millisecond
	s.PIDs["proxy"] = os.Getpid() // any process will do
	res := run(t, s)
	if m := res.Memory["proxy"]; res.Dials != 40 || res.Held != 24 || m.Before < 1<<20 || m.After < 1<<20 || m.Settle <= 0 || res.Requests != 0 {
		t.Errorf("%+v", res)
	}
}

// TestHoldNoticesLostConnections: connections that the server closes are not idle ones.
func TestHoldNoticesLostConnections(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("memory of processes is read on Linux only")
	}
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		hello(w, r)
	})
	s.Hold, s.Conns, s.Settle = true, 20, time.Millisecond
	if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "connections were made to hold 20") {
		t.Errorf("connections that were lost give %v", err)
	}
}

func TestFaultyKinds(t *testing.T) {
	good, _ := real(t)
	for want, f := range map[string]func(*Spec){
		`kind "x" is not`:            func(s *Spec) { s.Kind = "x" },
		"kind grpc goes over h2":     func(s *Spec) { s.Kind = GRPC },
		"kind websocket goes over":   func(s *Spec) { s.Kind, s.Proto = WebSocket, H2 },
		"number of its messages":     func(s *Spec) { s.Kind, s.Proto = Stream, H2 },
		"upload, resume and hold":    func(s *Spec) { s.Kind, s.Proto, s.Hold = GRPC, H2, true },
		"tls: failed to verify":      func(s *Spec) { s.Kind, s.URL = WebSocket, "https://elsewhere.test/ws" },
		"status code 101 but got 40": func(s *Spec) { s.Kind, s.Token, s.URL = WebSocket, "wrong", "https://example.com/ws" },
	} {
		s := good
		f(&s)
		if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestHostPort(t *testing.T) {
	for in, want := range map[string]string{"https://h.test/x": "h.test:443", "https://h.test:8/x": "h.test:8", "https://[::1]/": "[::1]:443"} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := hostPort(u); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
