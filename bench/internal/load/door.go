// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
)

// door is the way to the server: it makes connections, through the proxy where there is
// one, and counts them.
type door struct {
	spec    Spec
	url     *url.URL
	proxy   *url.URL
	roots   *x509.CertPool
	chunk   []byte // what uploads are made of
	dials   atomic.Int64
	resumed atomic.Int64
}

func newDoor(s Spec) (*door, error) {
	d := &door{spec: s, roots: x509.NewCertPool(), chunk: make([]byte, min(s.Upload, 64<<10))}
	var err error
	if d.url, err = url.Parse(s.URL); err != nil {
		return nil, err
	}
	if s.Proxy != "" {
		if d.proxy, err = url.Parse(s.Proxy); err != nil {
			return nil, err
		}
	}
	pem, err := os.ReadFile(s.Roots)
	if err != nil {
		return nil, err
	}
	if !d.roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", s.Roots)
	}
	return d, nil
}

// tls is the client's side. Without sessions, a new connection is a whole handshake.
func (d *door) tls(sessions tls.ClientSessionCache) *tls.Config {
	return &tls.Config{RootCAs: d.roots, MinVersion: tls.VersionTLS13, ClientSessionCache: sessions}
}

// dial connects to what an http.Transport asks for: the proxy, or else the server.
func (d *door) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d.dials.Add(1)
	if d.proxy == nil && d.spec.Dial != "" {
		addr = d.spec.Dial
	}
	var n net.Dialer
	return n.DialContext(ctx, network, addr)
}

// tunnel connects to the server where no http.Transport does it, by CONNECT through a
// proxy.
func (d *door) tunnel(ctx context.Context) (net.Conn, error) {
	if d.proxy == nil {
		return d.dial(ctx, "tcp", hostPort(d.url))
	}
	c, err := d.dial(ctx, "tcp", d.proxy.Host)
	if err != nil {
		return nil, err
	}
	if err := d.connect(ctx, c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (d *door) connect(ctx context.Context, c net.Conn) error {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	to := hostPort(d.url)
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: to}, Host: to, Header: make(http.Header)}
	if err := req.Write(c); err != nil {
		return err
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, req)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("CONNECT is answered %s", resp.Status)
	case in.Buffered() > 0:
		return fmt.Errorf("%d bytes came behind the answer to CONNECT, before the handshake", in.Buffered())
	}
	return nil
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "443")
}

// caller makes exchanges, on one connection.
type caller interface {
	// call makes one exchange and counts its bytes as they come. Whether several may run
	// at a time is for the kind to say: HTTP/2 and gRPC let them.
	call(ctx context.Context, w *worker) error
	close()
}

// open makes a caller of the load's kind.
func (d *door) open(ctx context.Context, sessions tls.ClientSessionCache) (caller, error) {
	switch d.spec.Kind {
	case GRPC, Stream:
		return newGRPC(d)
	case WebSocket:
		return newWebSocket(ctx, d)
	default:
		return &httpCaller{d: d, transport: d.transport(sessions)}, nil
	}
}
