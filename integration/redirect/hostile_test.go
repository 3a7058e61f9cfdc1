// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func join(host, port string) string { return net.JoinHostPort(host, port) }

// quic sends a UDP packet and returns what the kernel says about it.
func (w *world) quic(t *testing.T, address string) error {
	t.Helper()
	return w.podNS.Do(func() error {
		conn, err := net.Dial("udp", address)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := conn.Write([]byte("initial")); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return err
	})
}

func (w *world) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(w.file("trust/bundle.pem"))
	if err != nil {
		t.Fatal(err)
	}
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(pem)
	return p
}

// forged sends one request to an address under a server name, and returns the answer; ""
// where the handshake fails.
func (w *world) forged(t *testing.T, address, sni, request string) string {
	t.Helper()
	conn, err := w.dial(t.Context(), join(address, "443"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	tc := tls.Client(conn, &tls.Config{RootCAs: w.roots(t), ServerName: sni, NextProtos: []string{"http/1.1"}})
	if tc.Handshake() != nil {
		return ""
	}
	_, _ = io.WriteString(tc, request)
	b, _ := io.ReadAll(tc)
	return string(b)
}

// TestSpoofing: whatever address the client connects to, the request goes where the server
// name resolves to, with that host's credential; and the record tells.
func TestSpoofing(t *testing.T) {
	for _, way := range ways()[:2] {
		t.Run(way.name(), func(t *testing.T) { spoof(t, way) })
	}
}

func spoof(t *testing.T, way way) {
	w := newWorld(t)
	e := w.start(t, way.settings(settings), way.privileges()...)
	w.redirect(t, way.backend, way.flags()...)
	for _, v6 := range []bool{false, true} {
		w.arrivals.take()
		got := w.forged(t, addressOf("evil.egret.test", v6), "api.qase.io", "GET /v1/project HTTP/1.1\r\nHost: api.qase.io\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("answer %.80q", got)
		}
		if list := w.arrivals.take(); len(list) != 1 || list[0].Host != "api.qase.io" || !list[0].Ours {
			t.Errorf("it arrived as %+v", list)
		}
		r := e.await(t, "the spoofed address", func(r record) bool { return r.Original == join(addressOf("evil.egret.test", v6), "443") })
		if !r.OriginalMismatch || r.UpstreamIP != addressOf("api.qase.io", false) && r.UpstreamIP != addressOf("api.qase.io", true) {
			t.Errorf("record %+v", r)
		}
	}
	got := w.forged(t, addressOf("api.qase.io", false), "evil.egret.test", "GET /v1/project HTTP/1.1\r\nHost: evil.egret.test\r\nConnection: close\r\n\r\n")
	if list := w.arrivals.take(); len(list) != 1 || list[0].Host != "evil.egret.test" || list[0].Keys != 0 {
		t.Errorf("the attacker's name at the good address: %.60q, arrived as %+v", got, list)
	}
	if got := w.forged(t, addressOf("api.qase.io", false), "unlisted.example", "GET / HTTP/1.1\r\n\r\n"); got != "" {
		t.Errorf("an unlisted name: %.60q", got)
	}
	metrics := w.inPodOK(t, "curl", "-sS", "http://127.0.0.1:8633/metrics")
	for _, want := range []string{`egret_original_mismatch_total{destination="qase"} 2`, `egret_captured_total{began="tls",listener="v6"}`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

// TestFlaws: the eight public flaws of proxies that inject credentials, without a CONNECT.
func TestFlaws(t *testing.T) {
	const good, evil, end = "echo.egret.test", "evil.egret.test", "\r\nConnection: close\r\n\r\n"
	w := newWorld(t)
	w.start(t, settings)
	w.redirect(t, "nft")
	for name, list := range map[string][]struct{ at, sni, head string }{
		"tokenizer#40: the inner host picks the upstream": {{good, good, "GET /public/x HTTP/1.1\r\nHost: " + evil}},
		"dam#92, vm0#14412, OpenSandbox#1193: the host picks the credential": {
			{evil, evil, "GET /public/x HTTP/1.1\r\nHost: " + good}, {evil, evil, "GET /public/x HTTP/1.1\r\nHost: " + good + "."},
			{evil, evil, "GET /public/x HTTP/1.1\r\nHost: " + evil + ", " + good}, {good, evil, "GET /public/x HTTP/1.1\r\nHost: " + good},
		},
		"microsandbox#986: server name and authority disagree": {{good, evil, "GET /public/x HTTP/1.1\r\nHost: " + good}, {evil, good, "GET /public/x HTTP/1.1\r\nHost: " + evil}},
		"agent-sandbox.nix#150: brackets":                      {{good, good, "GET /public/x HTTP/1.1\r\nHost: [" + good + "]"}, {good, good, "GET /public/x HTTP/1.1\r\nHost: " + good + "@" + evil}},
		"agent-glovebox#4390: absolute form, doubled hosts": {
			{good, good, "GET https://" + evil + "/ HTTP/1.1\r\nHost: " + good}, {good, good, "GET https://" + good + "/public/x HTTP/1.1\r\nHost: " + evil},
			{good, good, "GET /public/x HTTP/1.1\r\nHost: " + good + "\r\nHost: " + evil}, {good, good, "CONNECT " + evil + ":443 HTTP/1.1\r\nHost: " + good},
		},
	} {
		for _, x := range list {
			for _, v6 := range []bool{false, true} {
				if got := w.forged(t, addressOf(x.at, v6), x.sni, x.head+end); !strings.HasPrefix(got, "HTTP/1.1 4") {
					t.Errorf("%s: %q: %.60q", name, x.head, got)
				}
			}
		}
	}
	// CubeSandbox#1410: plain text, to port 443 and to port 80.
	for _, port := range []string{"443", "80"} {
		conn, err := w.dial(t.Context(), join(addressOf(good, false), port))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "GET /public/x HTTP/1.1\r\nHost: "+good+end)
		answer, _ := io.ReadAll(conn)
		_ = conn.Close()
		if !strings.HasPrefix(string(answer), "HTTP/1.1 403 egret target/plaintext") {
			t.Errorf("plain text to port %s: %.60q", port, answer)
		}
	}
	if list := w.arrivals.take(); len(list) != 0 {
		t.Errorf("forged requests arrived: %+v", list)
	}
	// A later request of a kept connection.
	got := w.forged(t, addressOf(evil, false), evil, "GET /public/x HTTP/1.1\r\nHost: "+evil+"\r\n\r\nGET /public/x HTTP/1.1\r\nHost: "+good+end)
	if strings.Count(got, "HTTP/1.1 200") != 1 || strings.Count(got, "HTTP/1.1 421") != 1 {
		t.Errorf("a later request: %q", got)
	}
	for _, a := range w.arrivals.take() {
		if a.Host != evil || a.Keys != 0 {
			t.Errorf("it arrived as %+v", a)
		}
	}
}

// hammer makes short calls until the end, each on a connection of its own.
func (w *world) hammer(ctx context.Context, roots *x509.CertPool, ok, failed *atomic.Int64, last *atomic.Int64) {
	c := &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return w.dial(ctx, join(addressOf("api.qase.io", ok.Load()%2 == 0), "443"))
		},
	}}
	for ctx.Err() == nil {
		resp, err := c.Get(rest)
		if err != nil || resp.StatusCode != http.StatusOK {
			failed.Add(1)
			time.Sleep(2 * time.Millisecond)
		} else {
			ok.Add(1)
			last.Store(time.Now().UnixNano())
		}
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
}

// TestKilledUnderLoad: while egret is gone nothing leaves the pod, and it is back within a
// second of its start.
func TestKilledUnderLoad(t *testing.T) {
	for _, way := range mainWays() {
		t.Run(way.name(), func(t *testing.T) { killUnderLoad(t, way) })
	}
}

func killUnderLoad(t *testing.T, way way) {
	w := newWorld(t)
	e := w.start(t, way.settings(settings), way.privileges()...)
	w.redirect(t, way.backend, way.flags()...)
	var ok, failed, last atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer func() { cancel(); running.Wait() }()
	roots := w.roots(t)
	for range 4 {
		running.Go(func() { w.hammer(ctx, roots, &ok, &failed, &last) })
	}
	waitFor(t, "calls succeed", func() bool { return ok.Load() > 30 })
	var took []time.Duration
	for range 3 {
		e.kill(t)
		time.Sleep(100 * time.Millisecond) // what was in flight is gone
		syns, _ := w.packets.begun()
		before, refused := ok.Load(), failed.Load()
		time.Sleep(700 * time.Millisecond)
		if now, _ := w.packets.begun(); now != syns {
			t.Errorf("%d connections left the pod while egret was gone", now-syns)
		}
		if ok.Load() != before || failed.Load() == refused && !way.waits() {
			t.Errorf("while egret was gone %d calls succeeded and %d failed", ok.Load()-before, failed.Load()-refused)
		}
		start := time.Now()
		e = w.run(t, way.privileges()...)
		waitFor(t, "a call succeeds again", func() bool { return ok.Load() > before })
		took = append(took, time.Since(start))
		waitFor(t, "calls succeed", func() bool { return ok.Load() > before+20 })
	}
	slices.Sort(took)
	t.Logf("%s: served again %v after its start; %d calls, %d refused", way.name(), took, ok.Load(), failed.Load())
	if most := way.backSoon(); took[1] > most { // one may meet a busy machine
		t.Errorf("it took %v", took)
	}
	for _, a := range w.arrivals.take() {
		if !a.Ours {
			t.Errorf("a request came round egret: %+v", a)
			break
		}
	}
	w.packets.holdNoSecret(t, w)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}
