// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/internal/wireerr"
)

// UpstreamProxy is the corporate proxy that egret goes through. It is a setting of the
// node with a CA and a credential of its own, never taken from the environment (MUST T7).
type UpstreamProxy struct {
	Scheme   string // http or https
	Host     string
	Port     uint16
	Roots    *x509.CertPool // for https; nil: the system's
	Username string
	Password func() (secret.Secret, error) // nil: no credential
}

// maxConnectAnswer bounds the corporate proxy's answer to CONNECT.
const maxConnectAnswer = 16 << 10

// dial opens a tunnel to the route's host. The corporate proxy resolves the name, so
// the address check is its own (MUST T13); its own address is the operator's word.
func (p *UpstreamProxy) dial(ctx context.Context, d *Dialer, rt Route) (net.Conn, error) {
	addrs, err := d.resolve(ctx, p.Host)
	if err != nil {
		return nil, err
	}
	conn, err := d.race(ctx, addrs, p.Port)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	tunnel, err := p.open(ctx, conn, rt)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return tunnel, nil
}

func (p *UpstreamProxy) open(ctx context.Context, conn net.Conn, rt Route) (net.Conn, error) {
	if p.Scheme == "https" {
		tc := tls.Client(conn, &tls.Config{
			ServerName: p.Host, RootCAs: p.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		})
		if err := tc.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("%w: tls to %q: %w", errProxy, p.Host, wireerr.Wrap(err))
		}
		conn = tc
	}
	req, err := p.connectRequest(rt)
	if err != nil {
		return nil, err
	}
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, err)
	}
	br := bufio.NewReader(io.LimitReader(conn, maxConnectAnswer))
	resp, err := http.ReadResponse(br, req) //nolint:bodyclose // a 2xx to CONNECT has no body, and others close the connection
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProxy, wireerr.Wrap(err))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: status %d", errProxy, resp.StatusCode)
	}
	if br.Buffered() > 0 { // the far end speaks TLS and waits for our hello: this is the proxy's own talk
		return nil, fmt.Errorf("%w: bytes after the answer to CONNECT", errProxy)
	}
	return conn, nil
}

func (p *UpstreamProxy) connectRequest(rt Route) (*http.Request, error) {
	authority := net.JoinHostPort(rt.Host, strconv.Itoa(int(rt.Port)))
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: authority}, Host: authority, Header: http.Header{"User-Agent": {"egret"}},
	}
	if p.Password != nil {
		pw, err := p.Password()
		if err != nil {
			return nil, fmt.Errorf("%w: password: %w", errProxy, err)
		}
		userpass := base64.StdEncoding.EncodeToString([]byte(p.Username + ":" + pw.Reveal()))
		req.Header.Set("Proxy-Authorization", "Basic "+userpass)
	}
	return req, nil
}
