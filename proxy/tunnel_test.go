// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/policy"
)

// tcpServer is a plain upstream for tunnels; serve owns the connection.
func (w *world) tcpServer(serve func(*net.TCPConn)) string {
	w.t.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(w.t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); serve(c.(*net.TCPConn)) }()
		}
	}()
	w.t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

// pinTo sends the tunnelled destination to an address.
func (w *world) pinTo(addr string) {
	w.reload(func(s *policy.Set) {
		d := *s.Destinations[1]
		d.Dial = addr
		r := *s.Tunnels[0]
		r.Destination = &d
		s.Destinations, s.Tunnels = []*policy.Destination{s.Destinations[0], &d}, []*policy.Rule{&r}
	})
}

func TestTunnelCarriesTLSUnreadToTheRealServer(t *testing.T) {
	w := newWorld(t)
	resp := do(t, w.client("sidecar"), request(t, "GET", "https://"+pinHost+"/x", nil))
	_ = body(t, resp)
	if resp.TLS.PeerCertificates[0].Issuer.String() == w.leafCA.Roots()[0].Subject.String() || resp.Header.Get("Egret-Decision") != "" || resp.StatusCode != 401 {
		t.Errorf("%s from %s", resp.Status, resp.TLS.PeerCertificates[0].Issuer)
	}
	if w.minter.mints.Load() != 0 {
		t.Error("a credential was fetched for a tunnel")
	}
	start := w.wait(1, func(r record) bool { return r.Kind == audit.KindStreamStart })[0]
	if start.Verdict != "tunnel" || start.Policy != "dashboard-pinned" || start.Host != pinHost || start.UpstreamIP != "127.0.0.1" {
		t.Errorf("record %+v", start)
	}
}

func TestTunnelHalfClosesBothWays(t *testing.T) {
	w := newWorld(t)
	w.pinTo(w.tcpServer(func(c *net.TCPConn) { // answers only after the client's end, then ends itself
		b, _ := io.ReadAll(c)
		_, _ = c.Write(append([]byte("got "), b...))
		_ = c.CloseWrite()
		_, _ = io.ReadAll(c)
	}))
	conn := w.tunnelTo("sidecar", pinHost+":443").(*net.TCPConn)
	_, _ = io.WriteString(conn, "question")
	_ = conn.CloseWrite()
	if b, err := io.ReadAll(conn); string(b) != "got question" || err != nil {
		t.Errorf("answer %q %v", b, err)
	}
	end := w.wait(1, func(r record) bool { return r.Kind == audit.KindStreamEnd })[0]
	if end.BytesIn != 8 || end.BytesOut != 12 || end.Reason != "" {
		t.Errorf("record %+v", end)
	}
}

func TestTunnelLetsTheServerEndFirst(t *testing.T) {
	w := newWorld(t)
	w.pinTo(w.tcpServer(func(c *net.TCPConn) {
		_, _ = io.WriteString(c, "bye")
		_ = c.CloseWrite()
		b, _ := io.ReadAll(c)
		if string(b) != "late" {
			t.Errorf("the server got %q", b)
		}
	}))
	conn := w.tunnelTo("sidecar", pinHost+":443").(*net.TCPConn)
	if b, _ := io.ReadAll(conn); string(b) != "bye" {
		t.Errorf("answer %q", b)
	}
	_, _ = io.WriteString(conn, "late")
	_ = conn.CloseWrite()
	w.wait(1, func(r record) bool { return r.Kind == audit.KindStreamEnd && r.BytesIn == 4 && r.BytesOut == 3 })
}

func TestTunnelEndsWhenItIsIdleAndOnlyThen(t *testing.T) {
	w := newWorld(t, withLimits(Limits{TunnelIdle: 300 * time.Millisecond}))
	w.pinTo(w.tcpServer(func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	conn := w.tunnelTo("sidecar", pinHost+":443")
	buf := make([]byte, 1)
	for range 8 { // longer than the limit in all, never idle for that long
		time.Sleep(80 * time.Millisecond)
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			t.Fatalf("a busy tunnel ended: %v", err)
		}
	}
	if _, err := conn.Read(buf); err == nil {
		t.Error("an idle tunnel goes on")
	}
	w.wait(1, func(r record) bool {
		return r.Kind == audit.KindStreamEnd && r.Reason == "tunnel_idle" && r.Layer == "limit"
	})
}

func TestTunnelToADeadUpstreamIsRefusedBeforeThe200(t *testing.T) {
	w := newWorld(t)
	w.pinTo("127.0.0.1:1")
	if _, head := w.connect("sidecar", pinHost+":443", ""); !strings.HasPrefix(head, "HTTP/1.1 502 egret upstream/connect id=") {
		t.Errorf("answer %q", head)
	}
	w.wait(1, func(r record) bool { return r.Reason == "connect" && r.Status == 502 })
}

func TestUnlistedHostsAreTunnelledOnlyBySetting(t *testing.T) {
	w := newWorld(t, func(c *worldConfig) {
		c.dialer = func(d *Dialer) {
			d.Resolver = &names{answers: map[string][]netip.Addr{"localhost.": {netip.MustParseAddr("127.0.0.1")}}}
		}
	})
	addr := w.tcpServer(func(c *net.TCPConn) { _, _ = io.WriteString(c, "hello") })
	_, port, _ := net.SplitHostPort(addr)
	if _, head := w.connect("sidecar", "localhost:"+port, ""); !strings.HasPrefix(head, "HTTP/1.1 403") {
		t.Errorf("by default: %.60q", head)
	}
	w.reload(func(s *policy.Set) { s.UnlistedTunnel = true })
	if _, head := w.connect("sidecar", "localhost:"+port, ""); !strings.HasPrefix(head, "HTTP/1.1 403 egret target/private_address") {
		t.Errorf("a private address all the same: %.80q", head)
	}
	if _, head := w.connect("sidecar", "127.0.0.1:"+port, ""); !strings.HasPrefix(head, "HTTP/1.1 403") {
		t.Errorf("a literal: %.60q", head)
	}
}

// The kernel moves a tunnel's bytes, which it can only between bare TCP connections.
func TestTunnelIsBetweenBareConnections(t *testing.T) {
	w := newWorld(t)
	w.pinTo(w.tcpServer(func(c *net.TCPConn) { _, _ = io.Copy(c, c) }))
	_ = w.tunnelTo("sidecar", pinHost+":443")
	eventually(t, "the tunnel runs", func() bool { return w.srv.table.streams() == 1 })
	for _, c := range w.srv.table.all() {
		for _, x := range c.running() {
			p := x.(*pipe)
			_, up := p.up.(*net.TCPConn)
			_, down := p.c.Conn.(*net.TCPConn)
			if !up || !down {
				t.Errorf("copying between %T and %T", p.c.Conn, p.up)
			}
		}
	}
}

func TestTunnelThroughAnEntranceWithTLS(t *testing.T) {
	w := newWorld(t)
	c := w.meshClient(w.svid(jobID, time.Hour))
	resp := do(t, c, request(t, "GET", "https://"+pinHost+"/x", nil))
	if _ = body(t, resp); resp.StatusCode != http.StatusUnauthorized {
		t.Error(resp.Status)
	}
	c.CloseIdleConnections()
	w.wait(1, func(r record) bool {
		return r.Kind == audit.KindStreamEnd && r.Evidence == "x509-svid" && r.BytesIn > 0
	})
}
