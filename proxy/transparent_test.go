// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/policy"
)

// somewhere is where captured clients wanted to go: an address that is never reached.
const somewhere = "192.0.2.7:443"

// capturing opens a transparent entrance whose clients wanted to go there.
func (w *world) capturing(to string, change ...func(*Entrance)) {
	e := Entrance{Name: "captured", Identity: w.sidecar, Original: func(net.Conn) (netip.AddrPort, error) { return netip.ParseAddrPort(to) }}
	for _, c := range change {
		c(&e)
	}
	w.open(e)
}

// captured is a client that knows of no proxy: every connection ends at the entrance.
func (w *world) captured(change ...func(*http.Transport)) *http.Client {
	direct := func(tr *http.Transport) {
		tr.Proxy = nil
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", w.addr["captured"])
		}
	}
	return w.client("captured", append([]func(*http.Transport){direct}, change...)...)
}

func TestCapturedCalls(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere)
	for name, change := range map[string][]func(*http.Transport){"h2": nil, "h1": {http1}} {
		resp, text := w.get(w.captured(change...), "https://"+echoHost+"/x")
		if got := report(t, text); resp.StatusCode != 200 || got.Fingerprint == "" || got.Proto[:6] != "HTTP/"+map[string]string{"h2": "2", "h1": "1"}[name][:1] {
			t.Errorf("%s: %d %s", name, resp.StatusCode, text)
		}
		if r := w.recordOf(resp); r.Listener != "captured" || r.Original != somewhere || r.OriginalMismatch || r.Evidence != identity.EvidenceSidecar {
			t.Errorf("%s: record %+v", name, r)
		}
	}
	resp, text := w.get(w.captured(), "https://"+otherHost+"/")
	if resp.StatusCode != 200 {
		t.Errorf("another host: %d %s", resp.StatusCode, text)
	}
	if n := testutil.ToFloat64(w.srv.metrics.captured.WithLabelValues("captured", "tls")); n != 3 {
		t.Errorf("%v captured connections are counted", n)
	}
}

// TestCapturedRefusalsAreToldInside: a known caller at a listed destination learns why.
func TestCapturedRefusalsAreToldInside(t *testing.T) {
	w := newWorld(t, onlyPath("/allowed"))
	w.capturing(somewhere)
	resp, text := w.get(w.captured(), "https://"+echoHost+"/secret")
	if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "path_not_allowed" {
		t.Errorf("%d %s", resp.StatusCode, text)
	}
}

// resolves answers every name with one address.
type resolves struct{ addr string }

func (r resolves) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr(r.addr)}, nil
}

// TestMUST_T4_TheOriginalAddressIsNeverDialled: egret resolves the server name itself,
// and an address that is not of the name is a signal and nothing more.
func TestMUST_T4_TheOriginalAddressIsNeverDialled(t *testing.T) {
	trap := must(net.Listen("tcp", "127.0.0.2:0"))(t)
	defer trap.Close()
	_, port, _ := net.SplitHostPort(trap.Addr().String())
	w := newWorld(t, func(c *worldConfig) { c.dialer = func(d *Dialer) { d.Resolver = resolves{"127.0.0.1"} } })
	twin := netip.MustParseAddrPort(w.twin.Addr())
	own := *w.set.Destinations[0]
	own.Dial, own.Ports, own.AllowPrivate = "", []uint16{twin.Port(), 443}, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	w.reload(func(s *policy.Set) {
		s.Destinations = []*policy.Destination{&own}
		r := *s.Rules[0]
		r.Destination = &own
		s.Rules = []*policy.Rule{&r}
	})
	for to, mismatch := range map[string]bool{
		fmt.Sprintf("127.0.0.2:%d", twin.Port()): true, fmt.Sprintf("127.0.0.1:%d", twin.Port()): false, fmt.Sprintf("[::ffff:127.0.0.1]:%d", twin.Port()): false,
	} {
		w.capturing(to)
		resp, text := w.get(w.captured(), "https://"+net.JoinHostPort(echoHost, fmt.Sprint(twin.Port()))+"/")
		if resp.StatusCode != 200 || report(t, text).Fingerprint == "" {
			t.Fatalf("%s: %d %s", to, resp.StatusCode, text)
		}
		if r := w.recordOf(resp); r.OriginalMismatch != mismatch || r.UpstreamIP != "127.0.0.1" {
			t.Errorf("%s: record %+v", to, r)
		}
	}
	if n := testutil.ToFloat64(w.srv.metrics.mismatches.WithLabelValues("echo")); n != 1 {
		t.Errorf("%v mismatches are counted", n)
	}
	// Nor where the attacker's own server waits at the address, on the trap's port.
	w.capturing("127.0.0.2:" + port)
	if _, err := w.captured().Get("https://" + echoHost + ":" + port + "/"); err == nil {
		t.Error("a port that no destination lists was reached")
	}
	_ = trap.(*net.TCPListener).SetDeadline(time.Now().Add(50 * time.Millisecond))
	if c, err := trap.Accept(); err == nil {
		_ = c.Close()
		t.Error("the original address was dialled")
	}
}

// begin opens a captured connection, sends bytes and returns what comes back to its end.
func (w *world) begin(first string) (string, error) {
	w.t.Helper()
	conn := w.dialEntrance("captured")
	if first != "" {
		if _, err := io.WriteString(conn, first); err != nil {
			w.t.Fatal(err)
		}
	}
	b, err := io.ReadAll(conn)
	_ = conn.Close()
	return string(b), err
}

func alertOf(b byte) string { return string([]byte{21, 3, 1, 0, 2, 2, b}) }

func TestCapturedConnectionsThatAreRefused(t *testing.T) {
	w := newWorld(t, withLimits(Limits{Handshake: 700 * time.Millisecond}))
	var to atomic.Value
	w.capturing(somewhere, func(e *Entrance) {
		e.Original = func(net.Conn) (netip.AddrPort, error) { return netip.ParseAddrPort(to.Load().(string)) }
	})
	wire := func(parts ...[]byte) string { return string(build(parts...)) }
	for name, x := range map[string]struct{ to, first, reason, answer string }{
		"unlisted":       {somewhere, wire(serverName("evil.example")), "unlisted_host", alertOf(alertUnrecognizedName)},
		"no name":        {somewhere, wire(), "no_sni", alertOf(alertUnrecognizedName)},
		"an address":     {somewhere, wire(serverName("192.0.2.7")), "bad_target", alertOf(alertUnrecognizedName)},
		"not a name":     {somewhere, wire(serverName("a..b")), "bad_target", alertOf(alertUnrecognizedName)},
		"other port":     {"192.0.2.7:8443", wire(serverName(echoHost)), "unlisted_host", alertOf(alertUnrecognizedName)},
		"two names":      {somewhere, wire(serverName(echoHost, "evil.example")), "bad_hello", alertOf(alertDecodeError)},
		"half a hello":   {somewhere, wire(serverName(echoHost))[:30], "handshake_timeout", alertOf(alertInternalError)},
		"ssh":            {"192.0.2.7:22", "SSH-2.0-x\r\n", "not_tls", ""},
		"silence":        {"192.0.2.7:22", "", "not_tls", ""},
		"silence at 443": {somewhere, "", "handshake_timeout", ""},
		"pinned, silent": {somewhere, wire(serverName("x." + pinHost)), "unlisted_host", alertOf(alertUnrecognizedName)},
	} {
		to.Store(x.to)
		before := len(w.allRecords())
		got, _ := w.begin(x.first)
		if got != x.answer {
			t.Errorf("%s: answer %q", name, got)
		}
		r := w.wait(before+1, any1)[before]
		if r.Reason != x.reason || r.Verdict != "deny" || r.Original != x.to || r.Workload == "" && x.reason != "bad_target" && x.reason != "bad_hello" && x.reason != "handshake_timeout" {
			t.Errorf("%s: record %+v", name, r)
		}
	}
	if len(w.echo.Reports()) != 0 {
		t.Error("something was forwarded")
	}
}

// TestCapturedPlainText: plain HTTP gets an answer that says what to do.
func TestCapturedPlainText(t *testing.T) {
	w := newWorld(t)
	w.capturing("192.0.2.7:80")
	for _, first := range []string{"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n", "POST /x HTTP/1.0\r\n\r\nbody"} {
		got, err := w.begin(first)
		if err != nil || !strings.HasPrefix(got, "HTTP/1.1 403 egret target/plaintext id=") || !strings.Contains(got, "application/problem+json") || !strings.Contains(got, "use https") {
			t.Errorf("answer %q, %v", got, err)
		}
	}
	if r := w.wait(2, any1)[0]; r.Reason != "plaintext" || r.Status != 403 {
		t.Errorf("record %+v", r)
	}
}

// TestCapturedUnknownCallers: who is not known gets nothing but an end, and a record.
func TestMUST_I8_CapturedUnknownCallers(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere, func(e *Entrance) { e.Identity = nobody{} })
	if got, _ := w.begin(string(build(serverName(echoHost)))); got != alertOf(alertAccessDenied) {
		t.Errorf("answer %q", got)
	}
	if r := w.wait(1, any1)[0]; r.Layer != "identity" || r.Verdict != "deny" || r.Workload != "" || r.Host != echoHost {
		t.Errorf("record %+v", r)
	}
}

type nobody struct{}

func (nobody) Resolve(context.Context, identity.Peer) (identity.Caller, error) {
	return nil, identity.ErrUnknown
}

// TestCapturedClientsThatConnectAhead: a client that keeps a connection for later is not
// taken for one that waits for the server.
func TestCapturedClientsThatConnectAhead(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere)
	conn := w.dialEntrance("captured")
	time.Sleep(silence + 200*time.Millisecond)
	tc := tls.Client(conn, &tls.Config{RootCAs: w.roots(), ServerName: echoHost})
	if err := tc.Handshake(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(tc, "GET / HTTP/1.1\r\nHost: "+echoHost+"\r\nConnection: close\r\n\r\n")
	if head := readHead(tc); !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Errorf("answer %.60q", head)
	}
}

// greeter is a server that speaks first, then echoes a line.
func greeter(t *testing.T) netip.AddrPort {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "220 hello\r\n")
			line, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = io.WriteString(c, "you said "+line)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return netip.MustParseAddrPort(l.Addr().String())
}

// TestCapturedTunnels: what is not TLS goes to its own address where a destination lists
// that, and nowhere else.
func TestCapturedTunnels(t *testing.T) {
	server := greeter(t)
	w := newWorld(t)
	w.capturing(server.String())
	listed := &policy.Destination{Name: "mail", Hosts: []string{"127.0.0.1"}, Ports: []uint16{server.Port()}, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	rule := func(s *policy.Set) *policy.Rule {
		r := *s.Tunnels[0]
		r.Policy, r.Destination = "mail", listed
		return &r
	}
	talk := func(wait time.Duration, first string) string {
		conn := w.dialEntrance("captured")
		time.Sleep(wait)
		_, _ = io.WriteString(conn, first)
		b, _ := io.ReadAll(conn)
		_ = conn.Close()
		return string(b)
	}
	w.reload(func(s *policy.Set) {
		s.Destinations = append(s.Destinations, listed)
		s.Tunnels = append(s.Tunnels, rule(s))
	})
	if got := talk(0, "EHLO x\r\n"); got != "220 hello\r\nyou said EHLO x\r\n" {
		t.Errorf("client first: %q", got)
	}
	conn := w.dialEntrance("captured") // server first
	greeting := make([]byte, 11)
	start := time.Now()
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "220 hello\r\n" || time.Since(start) > 2*time.Second {
		t.Errorf("server first: %q, %v after %s", greeting, err, time.Since(start))
	}
	_ = conn.Close()
	ends := w.wait(2, func(r record) bool { return r.Kind == "stream_end" })
	if r := ends[0]; r.Verdict != "tunnel" || r.Policy != "mail" || r.Original != server.String() || r.BytesIn != 8 {
		t.Errorf("record %+v", r)
	}
	w.reload(func(s *policy.Set) { s.Destinations = append(s.Destinations, listed) }) // listed, not granted
	if got := talk(0, "EHLO x\r\n"); got != "" {
		t.Errorf("without a grant: %q", got)
	}
	w.reload(func(s *policy.Set) { s.UnlistedTunnel = true }) // passes, but to no private address
	if got := talk(0, "EHLO x\r\n"); got != "" {
		t.Errorf("to a private address: %q", got)
	}
	w.wait(1, func(r record) bool { return r.Reason == "private_address" })
}

// TestCapturedLoops: a connection to egret's own address, or from egret itself, ends.
func TestMUST_P3_CapturedLoops(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere, func(e *Entrance) {
		e.Original = func(c net.Conn) (netip.AddrPort, error) { return plainAddr(c.LocalAddr()), nil }
	})
	if conn, err := net.Dial("tcp", w.addr["captured"]); err == nil { // it may be reset before it is open
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("it is served")
		}
		_ = conn.Close()
	}
	if r := w.wait(1, any1)[0]; r.Layer != "target" || r.Reason != "loop" {
		t.Errorf("record %+v", r)
	}

	// egret's dialler is led back to the entrance.
	d := w.pool.opt.Dialer
	w.capturing(somewhere)
	to := netip.MustParseAddrPort(w.addr["captured"])
	conn := must(d.DialContext(t.Context(), Route{Dial: to.String()}))(t)
	defer conn.Close()
	own := plainAddr(conn.LocalAddr())
	if !d.calls.has(own, to) {
		t.Error("its own connection is not known")
	}
	d.calls.mu.Lock() // as if it had been redirected on its way there
	d.calls.open[ends{own, netip.MustParseAddrPort(somewhere)}] = d.calls.open[ends{own, to}]
	d.calls.mu.Unlock()
	_, _ = conn.Write(build(serverName(echoHost)))
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Error("it is served")
	}
	if r := w.wait(2, any1)[1]; r.Reason != "loop" || !strings.Contains(r.Detail, "came back") {
		t.Errorf("record %+v", r)
	}
	_ = conn.Close()
	if d.calls.has(own, to) {
		t.Error("a closed connection is still known")
	}
	if n := testutil.ToFloat64(w.srv.metrics.refusals.WithLabelValues("captured", "target", "loop")); n != 2 {
		t.Errorf("%v loops are counted", n)
	}
}

// TestCapturedDrain: who has not said anything yet does not hold the drain up.
func TestCapturedDrain(t *testing.T) {
	w := newWorld(t)
	w.capturing(somewhere)
	conn := w.dialEntrance("captured")
	eventually(t, "the connection is taken", func() bool { return w.srv.table.count.Load() == 1 })
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if d := w.srv.Drain(ctx); d.Cut != 0 || time.Since(start) > 2*time.Second {
		t.Errorf("%+v after %s", d, time.Since(start))
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("it is still open")
	}
	if n := w.srv.table.count.Load(); n != 0 {
		t.Errorf("%d connections are counted", n)
	}
}

func TestTransparentEntrancesHaveNoTLS(t *testing.T) {
	w := newWorld(t)
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	err := w.srv.Serve(Entrance{Name: "x", Listener: l, Identity: nobody{}, TLS: &tls.Config{}, Original: func(net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, errors.New("never") }})
	if err == nil || !strings.Contains(err.Error(), `listener "x"`) {
		t.Errorf("got %v", err)
	}
}
