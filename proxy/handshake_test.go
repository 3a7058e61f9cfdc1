// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// resuming makes a client use a session cache that it shares with others.
func resuming(c *http.Client, cache tls.ClientSessionCache) *http.Client {
	c.Transport.(*http.Transport).TLSClientConfig.ClientSessionCache = cache
	return c
}

// TestMUST_I4_AResumedSessionIsNobodysIdentity: the keys of a TLS session say nothing about
// who uses them; who calls is found out for each connection, and asked for each request.
func TestMUST_I4_AResumedSessionIsNobodysIdentity(t *testing.T) {
	w, cache := newWorld(t), tls.NewLRUClientSessionCache(8)
	const url = "https://" + echoHost + "/v1/x"
	first, _ := w.get(resuming(w.client("sidecar"), cache), url)
	if first.StatusCode != http.StatusOK {
		t.Fatal(first.Status)
	}
	other, _ := w.get(resuming(w.jwtClient(idleID, "egret", time.Minute), cache), url)
	if rec := w.recordOf(other); !other.TLS.DidResume || other.StatusCode != http.StatusForbidden || rec.Workload != idleID || rec.Fingerprint != "" {
		t.Errorf("resumed %v, %s, record %+v", other.TLS.DidResume, other.Status, rec)
	}
	w.policy.Store(w.policy.Load().Revoke([]policy.Revocation{{Workload: "dashboard", Label: incident}}))
	late, _ := w.get(resuming(w.client("sidecar"), cache), url)
	if rec := w.recordOf(late); !late.TLS.DidResume || late.StatusCode != http.StatusForbidden || rec.Reason != "revoked" {
		t.Errorf("resumed %v, %s, record %+v", late.TLS.DidResume, late.Status, rec)
	}
}

// TestKeyExchangeInsideOneMachine: no post-quantum exchange where there is no wire, unless
// the client has nothing else.
func TestKeyExchangeInsideOneMachine(t *testing.T) {
	w := newWorld(t)
	for name, tc := range map[string]struct {
		offered []tls.CurveID
		want    tls.CurveID
	}{
		"Go's own choice":   {nil, tls.X25519},
		"post-quantum only": {[]tls.CurveID{tls.X25519MLKEM768}, tls.X25519MLKEM768},
		"no X25519":         {[]tls.CurveID{tls.X25519MLKEM768, tls.CurveP256}, tls.X25519MLKEM768},
		"older":             {[]tls.CurveID{tls.CurveP256}, tls.CurveP256},
	} {
		t.Run(name, func(t *testing.T) {
			resp, _ := w.get(w.client("sidecar", func(tr *http.Transport) { tr.TLSClientConfig.CurvePreferences = tc.offered }), "https://"+echoHost+"/")
			if resp.TLS.CurveID != tc.want {
				t.Errorf("agreed on %v, want %v", resp.TLS.CurveID, tc.want)
			}
		})
	}
	if w.srv.tls.far.h1.CurvePreferences != nil || w.srv.tls.far.both.CurvePreferences != nil {
		t.Error("the choice for clients on other machines is not Go's")
	}
}

func TestSameMachine(t *testing.T) {
	tcp := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	for name, tc := range map[string]struct {
		remote, local net.Addr
		want          bool
	}{
		"loopback":          {tcp("127.0.0.1:40000"), tcp("127.0.0.1:8080"), true},
		"loopback, IPv6":    {tcp("[::1]:40000"), tcp("[::1]:8080"), true},
		"loopback, mapped":  {tcp("[::ffff:127.0.0.1]:40000"), tcp("[::ffff:127.0.0.1]:8080"), true},
		"its own address":   {tcp("192.0.2.7:40000"), tcp("192.0.2.7:8080"), true},
		"unix":              {&net.UnixAddr{Net: "unix"}, &net.UnixAddr{Net: "unix"}, true},
		"elsewhere":         {tcp("192.0.2.8:40000"), tcp("192.0.2.7:8080"), false},
		"sent to loopback":  {tcp("192.0.2.8:40000"), tcp("127.0.0.1:8080"), false},
		"no address":        {&net.TCPAddr{}, &net.TCPAddr{}, false},
		"another transport": {&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, nil, false},
		"nothing":           {nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := sameMachine(tc.remote, tc.local); got != tc.want {
				t.Errorf("got %v", got)
			}
		})
	}
}

// BenchmarkNewConnection is CONNECT, handshake and one request, the client's half included.
func BenchmarkNewConnection(b *testing.B) {
	for name, change := range map[string]func(*tls.Config){
		"full":               func(*tls.Config) {},
		"full, post-quantum": func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768} },
		"resumed":            func(c *tls.Config) { c.ClientSessionCache = tls.NewLRUClientSessionCache(8) },
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, withHandler(quietHandler))
			cfg := &tls.Config{RootCAs: w.roots(), ServerName: otherHost}
			change(cfg)
			once := func() { w.oneRequest(b, cfg) }
			once()
			b.ReportAllocs()
			for b.Loop() {
				once()
			}
		})
	}
}

func (w *world) oneRequest(b *testing.B, cfg *tls.Config) {
	conn, err := net.Dial("tcp", w.addr["sidecar"])
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "CONNECT "+otherHost+":443 HTTP/1.1\r\nHost: "+otherHost+":443\r\n\r\n")
	if head := readHead(conn); head == "" {
		b.Fatal("no answer to CONNECT")
	}
	tc := tls.Client(conn, cfg)
	_, _ = io.WriteString(tc, "GET /x HTTP/1.1\r\nHost: "+otherHost+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(tc), nil)
	if err != nil {
		b.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
}
