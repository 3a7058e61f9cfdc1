// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server of HTTP/1.1 and HTTP/2 and returns a load for it.
func serve(t *testing.T, h http.HandlerFunc) Spec {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // connections end in the middle of windows
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return Spec{
		URL: "https://example.com/", Dial: s.Listener.Addr().String(), Roots: roots, Proto: H1, Conns: 2, Bytes: 5,
		Warmup: 10 * time.Millisecond, Window: 60 * time.Millisecond, PIDs: map[string]int{},
	}
}

func hello(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }

func run(t *testing.T, s Spec) Result {
	t.Helper()
	res, err := Run(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestClosedLoop(t *testing.T) {
	for _, c := range []struct {
		name           string
		proto          string
		conns, streams int
		fresh          bool
	}{
		{"h1", H1, 3, 0, false},
		{"h2", H2, 3, 0, false},
		{"streams share a connection", H2, 1, 20, false},
		{"new connections", H1, 2, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, hello)
			s.Proto, s.Conns, s.Streams, s.Fresh = c.proto, c.conns, c.streams, c.fresh
			res := run(t, s)
			if res.Requests == 0 || res.Errors != 0 || res.Bytes < 5*res.Requests-5*int64(c.conns*max(1, c.streams)) || res.Elapsed < s.Window {
				t.Errorf("%+v", res)
			}
			if !c.fresh && res.Dials != int64(c.conns) || c.fresh && res.Dials < res.Requests {
				t.Errorf("%d connections for %d requests", res.Dials, res.Requests)
			}
			if res.Latency.P50 <= 0 || res.Latency.Max > time.Second || res.CPU["load"] <= 0 {
				t.Errorf("latencies %+v, CPU %v", res.Latency, res.CPU)
			}
		})
	}
}

// TestNoCoordinatedOmission: the server stalls once. In a closed loop only the requests
// in flight would notice; at a fixed rate everything that was due meanwhile must.
func TestNoCoordinatedOmission(t *testing.T) {
	const stall = 200 * time.Millisecond
	var began atomic.Int64
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		now := time.Now()
		began.CompareAndSwap(0, now.UnixNano())
		from := time.Unix(0, began.Load()).Add(50 * time.Millisecond)
		if until := from.Add(stall); now.After(from) && now.Before(until) {
			time.Sleep(until.Sub(now))
		}
		hello(w, r)
	})
	s.Rate, s.Window = 200, 400*time.Millisecond
	res := run(t, s)
	if res.Latency.P50 > stall || res.Latency.P90 < stall/2 {
		t.Errorf("a stall of half of the window shows as %+v", res.Latency)
	}
	if want := s.Rate * s.Window.Seconds(); float64(res.Latency.Count) < want/2 || float64(res.Latency.Count) > want*1.5 {
		t.Errorf("%d requests, want about %.0f", res.Latency.Count, want)
	}
}

func TestWhatIsNotCounted(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		spec   func(*Spec)
		want   string
	}{
		{"status", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }, nil, "status 403"},
		{"length", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hi")) }, nil, "2 bytes instead of 5"},
		{"cut", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = w.Write([]byte("he"))
		}, nil, "unexpected EOF"},
		{"trust", hello, func(s *Spec) { s.URL = "https://elsewhere.test/" }, "certificate"},
		{"nobody there", hello, func(s *Spec) { s.Dial = "127.0.0.1:1" }, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, c.answer)
			if c.spec != nil {
				c.spec(&s)
			}
			res := run(t, s)
			if res.Requests != 0 || res.Latency.Count != 0 || res.Errors == 0 || !strings.Contains(res.Error, c.want) {
				t.Errorf("%d requests, %d errors: %q, want %q", res.Requests, res.Errors, res.Error, c.want)
			}
		})
	}
}

func TestFaultySpecs(t *testing.T) {
	good := serve(t, hello)
	for _, c := range []struct {
		name string
		f    func(*Spec)
		want string
	}{
		{"proto", func(s *Spec) { s.Proto = "h3" }, `proto "h3"`},
		{"streams", func(s *Spec) { s.Streams = 2 }, "one request at a time"},
		{"conns", func(s *Spec) { s.Conns = 0 }, "must be positive"},
		{"window", func(s *Spec) { s.Window = 0 }, "must be positive"},
		{"url", func(s *Spec) { s.URL = ":" }, "missing protocol scheme"},
		{"proxy", func(s *Spec) { s.Proxy = ":" }, "missing protocol scheme"},
		{"roots", func(s *Spec) { s.Roots = "/nowhere" }, "no such file"},
		{"no roots", func(s *Spec) { s.Roots = os.DevNull }, "holds no certificate"},
		{"pid", func(s *Spec) { s.PIDs = map[string]int{"proxy": 1 << 28} }, "proxy: "},
	} {
		s := good
		c.f(&s)
		if _, err := Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
