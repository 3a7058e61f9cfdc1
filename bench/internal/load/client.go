// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"time"
)

// clients is one transport for each connection of the load, so that the number of
// connections is what was asked for and no pool chooses among them.
type clients struct {
	spec  Spec
	url   *url.URL
	proxy *url.URL
	roots *x509.CertPool
	each  []*http.Transport // empty where every request has its own
	dials atomic.Int64
}

func newClients(s Spec) (*clients, error) {
	c := &clients{spec: s, roots: x509.NewCertPool()}
	var err error
	if c.url, err = url.Parse(s.URL); err != nil {
		return nil, err
	}
	if s.Proxy != "" {
		if c.proxy, err = url.Parse(s.Proxy); err != nil {
			return nil, err
		}
	}
	pem, err := os.ReadFile(s.Roots)
	if err != nil {
		return nil, err
	}
	if !c.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", s.Roots)
	}
	if !s.Fresh {
		for range s.Conns {
			c.each = append(c.each, c.transport())
		}
	}
	return c, nil
}

func (c *clients) close() {
	for _, t := range c.each {
		t.CloseIdleConnections()
	}
}

// transport makes a client for one connection. TLS sessions are not resumed: a new
// connection is a whole handshake.
func (c *clients) transport() *http.Transport {
	p := new(http.Protocols)
	p.SetHTTP1(c.spec.Proto == H1)
	p.SetHTTP2(c.spec.Proto == H2)
	t := &http.Transport{
		Protocols: p, DisableCompression: true, IdleConnTimeout: time.Minute,
		TLSClientConfig:     &tls.Config{RootCAs: c.roots, MinVersion: tls.VersionTLS13},
		TLSHandshakeTimeout: 10 * time.Second,
		HTTP2:               &http.HTTP2Config{StrictMaxConcurrentRequests: true},
		DialContext:         c.dial,
	}
	if c.spec.Proto == H1 {
		t.MaxConnsPerHost = 1
	}
	if c.proxy != nil {
		t.Proxy = http.ProxyURL(c.proxy)
	}
	return t
}

func (c *clients) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c.dials.Add(1)
	if c.proxy == nil && c.spec.Dial != "" {
		addr = c.spec.Dial
	}
	var d net.Dialer
	return d.DialContext(ctx, network, addr)
}

// get makes one request and reads the whole answer, counting its bytes as they come.
func (c *clients) get(ctx context.Context, t *http.Transport, w *worker) error {
	r := (&http.Request{Method: http.MethodGet, URL: c.url, Host: c.url.Host, Header: make(http.Header, 2)}).WithContext(ctx)
	if c.spec.Token != "" {
		r.Header["Authorization"] = []string{"Bearer " + c.spec.Token}
	}
	resp, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	n, err := w.drain(resp.Body)
	switch {
	case err != nil:
		return fmt.Errorf("reading the body: %w", err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d (%s)", resp.StatusCode, resp.Header.Get("Egret-Decision"))
	case n != c.spec.Bytes:
		return fmt.Errorf("%d bytes instead of %d", n, c.spec.Bytes)
	case resp.ProtoMajor == 2 != (c.spec.Proto == H2):
		return fmt.Errorf("answered over %s, want %s", resp.Proto, c.spec.Proto)
	}
	return nil
}

// drain reads to the end.
func (w *worker) drain(body io.Reader) (total int64, err error) {
	for {
		n, err := body.Read(w.buf)
		total += int64(n)
		w.bytes.Add(int64(n))
		switch err {
		case nil:
		case io.EOF:
			return total, nil
		default:
			return total, err
		}
	}
}
