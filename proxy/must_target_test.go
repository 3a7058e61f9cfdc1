// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/policy"
)

// untouched fails the test where a request has reached the SaaS.
func (w *world) untouched() {
	w.t.Helper()
	if reps := w.echo.Reports(); len(reps) != 0 {
		w.t.Errorf("the SaaS saw %+v", reps)
	}
}

func TestMUST_T1_SNIMustNameTheConnectTarget(t *testing.T) {
	w := newWorld(t)
	for name, sni := range map[string]string{
		"another listed host": otherHost, "unlisted": "evil.example", "parent": "echo.example", "child": "x." + echoHost, "none": "",
	} {
		t.Run(name, func(t *testing.T) {
			tc := tls.Client(w.tunnelTo("sidecar", echoHost+":443"), &tls.Config{InsecureSkipVerify: true, ServerName: sni}) // the attacker's own client
			if err := tc.Handshake(); err == nil {
				t.Fatal("the handshake went through")
			}
		})
	}
	w.wait(4, func(r record) bool {
		return r.Kind == "handshake" && r.Reason == "authority_mismatch" && r.Host == echoHost
	})
	w.wait(1, func(r record) bool { return r.Kind == "handshake" && r.Reason == "no_sni" })
	w.untouched()
}

func TestMUST_T1_OtherSpellingsOfTheSameTargetAreTheSameTarget(t *testing.T) {
	w := newWorld(t)
	upper := strings.ToUpper(echoHost)
	for _, host := range []string{echoHost, upper, echoHost + ":443", echoHost + ".", upper + ".:443"} {
		tc := w.inside(upper+":443", echoHost)
		_, _ = io.WriteString(tc, "GET /x HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		if head := readHead(tc); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Errorf("Host %q: %s", host, head)
		}
	}
	for _, r := range w.echo.Reports() {
		if r.Host != echoHost {
			t.Errorf("the SaaS saw the Host %q: it comes from the rule", r.Host)
		}
	}
}

func TestMUST_T2_OnlyPathsOfTheConnectionsTargetAreForwarded(t *testing.T) {
	w := newWorld(t)
	for line, want := range map[string]string{
		"GET https://evil.example/ HTTP/1.1":                  "421",
		"GET https://" + echoHost + "/ HTTP/1.1":              "421", // absolute-form, even of the right host
		"GET http://" + echoHost + "/ HTTP/1.1":               "421",
		"OPTIONS * HTTP/1.1":                                  "421",
		"CONNECT evil.example:443 HTTP/1.1":                   "405",
		"GET evil.example:443 HTTP/1.1":                       "421",
		"GET //evil.example/ HTTP/1.1":                        "403",
		"GET /\\evil.example/ HTTP/1.1":                       "403",
		"GET @evil.example/ HTTP/1.1":                         "400",
		"GET /http://evil.example/ HTTP/1.1":                  "403",
		"GET https://" + echoHost + "@evil.example/ HTTP/1.1": "421",
	} {
		if got := w.raw(line + "\r\nHost: " + echoHost + "\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 "+want) {
			t.Errorf("%s: %.60q, want %s", line, got, want)
		}
	}
	w.untouched()
}

func TestMUST_T3_AnUnverifiedUpstreamGetsNothing(t *testing.T) {
	other := must(saas.NewCA())(t)
	var served atomic.Int64
	w := newWorld(t)
	for name, cert := range map[string]*tls.Certificate{
		"another CA":   must(other.Certificate(h1Host))(t),
		"another host": must(w.ca.Certificate("evil.example"))(t),
	} {
		t.Run(name, func(t *testing.T) {
			l := must(tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*cert}}))(t)
			srv := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { served.Add(1) })}
			go func() { _ = srv.Serve(l) }()
			t.Cleanup(func() { _ = srv.Close() })
			w.dialTo(h1Host, &upstream{listener: l})
			both(t, w, func(t *testing.T, c *http.Client) {
				resp, text := w.get(c, "https://"+h1Host+"/")
				if p := problemOf(t, text); resp.StatusCode != 502 || p.Reason != "tls_unverified" {
					t.Errorf("%d %+v", resp.StatusCode, p)
				}
			})
		})
	}
	if served.Load() != 0 {
		t.Error("the upstream was sent a request")
	}
}

// names is a Resolver with fixed answers that remembers what it was asked.
type names struct {
	mu      sync.Mutex
	answers map[string][]netip.Addr
	asked   []string
}

func (n *names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = append(n.asked, host)
	if a := n.answers[host]; a != nil {
		return a, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

func TestMUST_T5_EveryAddressOfAnAnswerIsChecked(t *testing.T) {
	public := netip.MustParseAddr("93.184.215.14")
	for _, bad := range []string{
		"127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.169.254", "169.254.170.23", "fd00:ec2::254", "100.64.0.1",
		"224.0.0.1", "0.0.0.0", "255.255.255.255", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "::ffff:127.0.0.1", "::1", "fe80::1%eth0",
		"fc00::1", "::", "::127.0.0.1", "ff02::1", "198.18.0.1", "192.0.2.1", "240.0.0.1",
	} {
		d := &Dialer{Resolver: &names{answers: map[string][]netip.Addr{"x.example.": {public, netip.MustParseAddr(bad)}}}}
		if _, err := d.DialContext(t.Context(), Route{Host: "x.example", Port: 443}); !errors.Is(err, errPrivate) {
			t.Errorf("an answer with %s: %v", bad, err)
		}
	}
	r := AddressRules{Deny: []netip.Prefix{netip.MustParsePrefix("93.184.0.0/16")}}
	if r.check(public, []netip.Prefix{netip.MustParsePrefix("93.0.0.0/8")}) == nil {
		t.Error("a destination overrode what the node denies")
	}
	allow := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16")}
	if err := (AddressRules{}).check(netip.MustParseAddr("10.9.9.9"), allow); err != nil {
		t.Errorf("an opt-in: %v", err)
	}
	if (AddressRules{}).check(netip.MustParseAddr("169.254.169.254"), allow) == nil {
		t.Error("an opt-in opened the cloud's metadata")
	}
}

func TestMUST_T5_EgretNeverDialsItself(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	own := netip.MustParseAddrPort(l.Addr().String())
	d := &Dialer{
		Resolver: &names{answers: map[string][]netip.Addr{"x.example.": {own.Addr()}}},
		Own:      func(ap netip.AddrPort) bool { return ap == own },
	}
	rt := Route{Host: "x.example", Port: own.Port(), Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	if _, err := d.DialContext(t.Context(), rt); !errors.Is(err, errPrivate) {
		t.Errorf("own address: %v", err)
	}
	d.Own = nil
	conn, err := d.DialContext(t.Context(), rt)
	if err != nil {
		t.Fatalf("with the opt-in: %v", err)
	}
	_ = conn.Close()
}

func TestMUST_T5_APrivateAddressIsToldAsSuch(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) { s.Destinations[0].Dial = "" }), func(c *worldConfig) {
		c.dialer = func(d *Dialer) {
			d.Resolver = &names{answers: map[string][]netip.Addr{echoHost + ".": {netip.MustParseAddr("169.254.169.254")}}}
		}
	})
	both(t, w, func(t *testing.T, c *http.Client) {
		resp, text := w.get(c, "https://"+echoHost+"/")
		if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "private_address" || strings.Contains(text, "169.254") {
			t.Errorf("%d %s", resp.StatusCode, text)
		}
	})
}

func TestMUST_T6_AddressesAndOtherPortsAreNotConnectTargets(t *testing.T) {
	w := newWorld(t)
	for target, want := range map[string]string{
		"127.0.0.1:443": "403 egret target/unlisted_host", "[::1]:443": "403 egret target/unlisted_host",
		"2130706433:443": "40", "0x7f.1:443": "40", "127.1:443": "40",
		echoHost + ":80": "403 egret target/unlisted_host", echoHost + ":8443": "403 egret target/unlisted_host",
		echoHost: "400 egret target/bad_target", echoHost + ":": "400", echoHost + ":0443": "400", echoHost + ":https": "400",
		"user@" + echoHost + ":443": "400", "[" + echoHost + "]:443": "400", "/" + echoHost: "400",
	} {
		if _, head := w.connect("sidecar", target, ""); !strings.HasPrefix(head, "HTTP/1.1 "+want) {
			t.Errorf("CONNECT %s: %.70q, want %s", target, head, want)
		}
	}
	w.reload(func(s *policy.Set) {
		d := *s.Destinations[0]
		d.Hosts = []string{echoHost, "127.0.0.1"} // even a destination that lists one is not intercepted
		s.Destinations = []*policy.Destination{&d}
	})
	if _, head := w.connect("sidecar", "127.0.0.1:443", ""); !strings.HasPrefix(head, "HTTP/1.1 403") {
		t.Errorf("a listed literal: %.60q", head)
	}
}

func TestMUST_T7_TheEnvironmentNamesNoProxy(t *testing.T) {
	l := must(net.Listen("tcp", "127.0.0.1:0"))(t)
	defer l.Close()
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy"} {
		t.Setenv(name, "http://"+l.Addr().String())
	}
	var called atomic.Bool
	go func() {
		if c, err := l.Accept(); err == nil {
			called.Store(true)
			_ = c.Close()
		}
	}()
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		if resp, _ := w.get(c, "https://"+echoHost+"/"); resp.StatusCode != 200 {
			t.Error(resp.Status)
		}
	})
	if called.Load() {
		t.Error("the proxy of the environment was used")
	}
}

func TestMUST_T8_ConnectionsAreSharedByNobodyElse(t *testing.T) {
	cert := func(b byte) *tls.Certificate { return &tls.Certificate{Certificate: [][]byte{{b}}} }
	base := Hop{ID: spiffeid.RequireFromString(jobID), Target: policy.Target{Host: echoHost, Port: 443}, Destination: &policy.Destination{}}
	seen := map[poolKey]string{base.key(protoH2): "base"}
	for name, change := range map[string]func(*Hop) string{
		"identity":    func(h *Hop) string { h.ID = spiffeid.RequireFromString(idleID); return protoH2 },
		"host":        func(h *Hop) string { h.Target.Host = otherHost; return protoH2 },
		"port":        func(h *Hop) string { h.Target.Port = 8443; return protoH2 },
		"protocol":    func(*Hop) string { return protoH1 },
		"roots":       func(h *Hop) string { h.Destination = &policy.Destination{RootsDigest: "x"}; return protoH2 },
		"dial":        func(h *Hop) string { h.Destination = &policy.Destination{Dial: "x"}; return protoH2 },
		"certificate": func(h *Hop) string { h.Certificate = cert(1); return protoH2 },
		"another one": func(h *Hop) string { h.Certificate = cert(2); return protoH2 },
	} {
		h := base
		k := h.key(change(&h))
		if was := seen[k]; was != "" {
			t.Errorf("%s shares connections with %s", name, was)
		}
		seen[k] = name
		if k.flight() == base.key(protoH2).flight() {
			t.Errorf("%s shares a flight", name)
		}
	}
}

func TestMUST_T8_TwoWorkloadsNeverShareAnUpstreamConnection(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules[:1] {
			mine := *r
			mine.Workload = s.Bindings[1].Workload
			s.Rules = append(s.Rules, &mine)
		}
	}))
	for _, id := range []string{jobID, idleID} {
		resp, _ := w.get(w.meshClient(w.svid(id, time.Hour)), "https://"+echoHost+"/")
		if resp.StatusCode != 200 {
			t.Fatalf("%s: %s", id, resp.Status)
		}
	}
	if total, _ := w.pool.Idle(); total != 2 {
		t.Errorf("%d upstream connections for two workloads", total)
	}
	if n := w.minter.mints.Load(); n != 2 {
		t.Errorf("%d tokens for two workloads", n)
	}
}

func TestMUST_T9_RedirectsAreTheClientsBusiness(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, _ := w.get(c, "https://"+echoHost+"/redirect?to=https%3A%2F%2Fevil.example%2F")
		if resp.StatusCode != 302 || resp.Header.Get("Location") != "https://evil.example/" {
			t.Errorf("%s to %q", resp.Status, resp.Header.Get("Location"))
		}
	})
	if n := len(w.echo.Reports()); n != 2 {
		t.Errorf("%d requests for two calls", n)
	}
}

func TestMUST_T13_NamesAreAskedForAsAbsoluteOnes(t *testing.T) {
	n := &names{}
	d := &Dialer{Resolver: n}
	if _, err := d.DialContext(t.Context(), Route{Host: "slack.com", Port: 443}); !errors.Is(err, errDNS) {
		t.Fatalf("unknown name: %v", err)
	}
	if len(n.asked) != 1 || n.asked[0] != "slack.com." {
		t.Errorf("asked for %q", n.asked)
	}
}

func TestMUST_T13_NAT64IsDecodedOnlyWhereItIsConfigured(t *testing.T) {
	prefix := netip.MustParsePrefix("2001:67c:2b0:db32:0:1::/96")
	addr := netip.MustParseAddr("2001:67c:2b0:db32:0:1:7f00:1") // 127.0.0.1 in it
	if err := (AddressRules{NAT64: []netip.Prefix{prefix}}).check(addr, nil); err == nil {
		t.Error("loopback behind a configured NAT64 prefix passed")
	}
	if err := (AddressRules{}).check(addr, nil); err != nil {
		t.Errorf("an ordinary address: %v", err)
	}
}
