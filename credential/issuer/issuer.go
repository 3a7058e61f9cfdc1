// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package issuer asks issuers over HTTPS: the one client of all providers. It follows no
// redirect, asks no proxy of the environment, reads a bounded answer, and words what went
// wrong without quoting anything that was sent or received (MUST T9, T10, C9).
package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"time"
)

// MaxBody is how many bytes of an answer are read, and of its header.
const MaxBody = 64 << 10

// Options say how an issuer is reached. The zero value asks the system's resolver and
// trusts the system's roots.
type Options struct {
	Roots   *x509.CertPool // nil: the system's
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	Proxy   func(*http.Request) (*url.URL, error) // nil: none; the environment is never asked
	Timeout time.Duration                         // of one call; default 8 s
	MaxBody int64                                 // bytes of an answer that are read; default MaxBody
	Logger  *slog.Logger                          // nil: silent
}

// Client asks one issuer. Safe for concurrent use. Close it.
type Client struct {
	http    *http.Client
	base    *http.Transport
	timeout time.Duration
	maxBody int64
	log     *slog.Logger
}

// New makes a client. Nothing is asked yet.
func New(o Options) *Client {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	}
	if o.Timeout <= 0 {
		o.Timeout = 8 * time.Second
	}
	if o.MaxBody <= 0 {
		o.MaxBody = MaxBody
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &http.Transport{
		Proxy:                  o.Proxy,
		DialContext:            o.Dial,
		TLSClientConfig:        &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    5 * time.Second,
		MaxResponseHeaderBytes: MaxBody,
		MaxIdleConns:           4,
		MaxIdleConnsPerHost:    4,
		MaxConnsPerHost:        16,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true, // a small answer may unpack to a large one
		ForceAttemptHTTP2:      true,
	}
	return &Client{http: client(t), base: t, timeout: o.Timeout, maxBody: o.MaxBody, log: o.Logger}
}

// presenting is a transport of its own for one call: a connection that is bound to one
// identity serves no other. Close its idle connections.
func (c *Client) presenting(cert *tls.Certificate) *http.Transport {
	t := c.base.Clone()
	t.DisableKeepAlives = true
	// Certificates would be left out where the server's list of authorities does not
	// name their issuer; what is configured to be shown is shown.
	t.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	return t
}

func client(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: t,
		// MUST T9: a redirect would carry the client's secret to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}
