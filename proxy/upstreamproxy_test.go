// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
)

// corporate is a corporate proxy: CONNECT with a password, to one real address whatever
// the name.
type corporate struct {
	listener net.Listener
	to       string // where every tunnel goes
	refuse   string // status line instead of 200

	mu   sync.Mutex
	seen []*http.Request
}

func startCorporate(t *testing.T, cert *tls.Certificate) *corporate {
	t.Helper()
	p := &corporate{listener: must(net.Listen("tcp", "127.0.0.1:0"))(t)}
	if cert != nil {
		p.listener = tls.NewListener(p.listener, &tls.Config{Certificates: []tls.Certificate{*cert}})
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := p.listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() { defer c.Close(); p.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = p.listener.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *corporate) serve(c net.Conn) {
	r, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	p.mu.Lock()
	p.seen = append(p.seen, r)
	p.mu.Unlock()
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("egret:pass-word"))
	status := p.refuse
	if status == "" && r.Header.Get("Proxy-Authorization") != want {
		status = "407 Proxy Authentication Required"
	}
	if status != "" {
		_, _ = io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: 12\r\n\r\nsecret words")
		return
	}
	up, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer up.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(up, c); _ = up.Close() }()
	_, _ = io.Copy(c, up)
}

// through makes a world whose way out is the corporate proxy.
func through(t *testing.T, p *corporate, scheme string, change func(*UpstreamProxy)) *world {
	t.Helper()
	_, port, _ := net.SplitHostPort(p.listener.Addr().String())
	n := must(strconv.ParseUint(port, 10, 16))(t)
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		for _, d := range s.Destinations {
			d.Dial = ""
		}
	}), func(c *worldConfig) {
		c.dialer = func(d *Dialer) {
			d.Resolver = &names{answers: map[string][]netip.Addr{"proxy.corp.example.": {netip.MustParseAddr("127.0.0.1")}}}
			d.Proxy = &UpstreamProxy{
				Scheme: scheme, Host: "proxy.corp.example", Port: uint16(n), Username: "egret",
				Password: func() (secret.Secret, error) { return secret.New("pass-word"), nil },
			}
			change(d.Proxy)
		}
	})
	p.to = w.twin.Addr()
	return w
}

func TestCorporateProxy(t *testing.T) {
	ca := must(saas.NewCA())(t)
	cert := must(ca.Certificate("proxy.corp.example"))(t)
	for scheme, c := range map[string]*tls.Certificate{"http": nil, "https": cert} {
		t.Run(scheme, func(t *testing.T) {
			p := startCorporate(t, c)
			w := through(t, p, scheme, func(u *UpstreamProxy) { u.Roots = ca.Pool() })
			both(t, w, func(t *testing.T, c *http.Client) {
				resp, text := w.get(c, "https://"+echoHost+"/x") // its address is private, and the operator's word
				if resp.StatusCode != 200 || report(t, text).Fingerprint == "" {
					t.Fatalf("%s %s", resp.Status, text)
				}
				if rec := w.recordOf(resp); rec.UpstreamIP != viaProxy {
					t.Errorf("record %+v", rec)
				}
			})
			resp := do(t, w.client("sidecar"), request(t, "GET", "https://"+pinHost+"/", nil))
			_ = body(t, resp)
			w.wait(1, func(r record) bool { return r.Kind == audit.KindStreamStart && r.UpstreamIP == viaProxy })
			p.mu.Lock()
			defer p.mu.Unlock()
			for _, r := range p.seen {
				if r.Method != "CONNECT" || r.Header.Get("Authorization") != "" || !strings.HasSuffix(r.RequestURI, ".example:443") {
					t.Errorf("the proxy saw %+v", r)
				}
			}
		})
	}
}

func TestCorporateProxyThatRefuses(t *testing.T) {
	ca := must(saas.NewCA())(t)
	cert := must(ca.Certificate("proxy.corp.example"))(t)
	for name, x := range map[string]struct {
		scheme, refuse string
		cert           *tls.Certificate
		change         func(*UpstreamProxy)
	}{
		"wrong password": {"http", "", nil, func(u *UpstreamProxy) { u.Username = "other" }},
		"no password":    {"http", "", nil, func(u *UpstreamProxy) { u.Password = nil }},
		"forbidden":      {"http", "403 Forbidden", nil, func(*UpstreamProxy) {}},
		"another CA":     {"https", "", cert, func(*UpstreamProxy) {}},
	} {
		t.Run(name, func(t *testing.T) {
			p := startCorporate(t, x.cert)
			p.refuse = x.refuse
			w := through(t, p, x.scheme, x.change)
			resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/")
			if pr := problemOf(t, text); resp.StatusCode != 502 || pr.Layer != "upstream" || pr.Reason != "proxy" {
				t.Errorf("%d %s", resp.StatusCode, text)
			}
			if rec := w.recordOf(resp); rec.Reason != "proxy" || strings.Contains(rec.Detail, "secret words") || strings.Contains(rec.Detail, "pass-word") {
				t.Errorf("record %+v", rec)
			}
			w.untouched()
		})
	}
}
