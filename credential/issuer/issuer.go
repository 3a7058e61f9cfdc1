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
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/wireerr"
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
	Logger  *slog.Logger                          // nil: silent
}

// Client asks one issuer. Safe for concurrent use. Close it.
type Client struct {
	http    *http.Client
	base    *http.Transport
	timeout time.Duration
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
	return &Client{http: client(t), base: t, timeout: o.Timeout, log: o.Logger}
}

func client(t http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: t,
		// MUST T9: a redirect would carry the client's secret to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Answer is what an issuer said, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte // never to be quoted

	sent time.Time
}

// Ask sends a request, which must be https, and reads the answer. cert, if not nil, is
// presented to the issuer, on a connection of its own. Errors are *credential.Error of
// kind Unreachable, or NotMinted for an answer that is too large.
func (c *Client) Ask(req *http.Request, cert *tls.Certificate) (*Answer, error) {
	if req.URL.Scheme != "https" {
		return nil, fail(credential.Unconfigured, errors.New("an issuer must be asked over https"))
	}
	ctx, cancel := context.WithTimeout(req.Context(), c.timeout)
	defer cancel()
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "egret")
	}
	ask := c.http
	if cert != nil {
		own := c.base.Clone()
		own.TLSClientConfig.Certificates = []tls.Certificate{*cert}
		own.DisableKeepAlives = true // a connection that is bound to one identity serves no other
		ask = client(own)
	}
	sent := time.Now()
	resp, err := ask.Do(req.WithContext(ctx))
	if err != nil {
		return nil, fail(credential.Unreachable, fmt.Errorf("%s: %w", req.URL.Host, wireerr.Wrap(unURL(err))))
	}
	defer resp.Body.Close()
	c.checkClock(req.URL.Host, resp.Header.Get("Date"), sent)
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	switch {
	case err != nil:
		return nil, fail(credential.Unreachable, fmt.Errorf("%s: answer breaks off: %w", req.URL.Host, wireerr.Wrap(err)))
	case len(body) > MaxBody:
		return nil, fail(credential.NotMinted, fmt.Errorf("%s: answer must not be larger than 64 KiB", req.URL.Host))
	}
	return &Answer{Status: resp.StatusCode, Header: resp.Header, Body: body, sent: sent}, nil
}

// PostForm asks with a form in the body, as OAuth does. header may be nil.
func (c *Client) PostForm(ctx context.Context, to string, form url.Values, header http.Header) (*Answer, error) {
	return c.post(ctx, to, content{"application/x-www-form-urlencoded", form.Encode()}, header)
}

// PostJSON asks with a JSON text in the body. header may be nil.
func (c *Client) PostJSON(ctx context.Context, to, body string, header http.Header) (*Answer, error) {
	return c.post(ctx, to, content{"application/json", body}, header)
}

type content struct{ kind, body string }

func (c *Client) post(ctx context.Context, to string, what content, header http.Header) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, strings.NewReader(what.body))
	if err != nil {
		return nil, fail(credential.Unconfigured, errors.New("the issuer's URL cannot be asked"))
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("Content-Type", what.kind)
	req.Header.Set("Accept", "application/json")
	return c.Ask(req, nil)
}

// Close ends idle connections.
func (c *Client) Close() error {
	c.http.CloseIdleConnections()
	return nil
}

// checkClock warns about a clock that differs: an assertion or certificate would be
// refused for it. Lifetimes are relative and do not depend on it.
func (c *Client) checkClock(host, date string, sent time.Time) {
	t, err := http.ParseTime(date)
	if err != nil {
		return
	}
	if d := t.Sub(sent).Round(time.Second); d.Abs() > time.Minute {
		c.log.Warn("clock differs from that of the issuer", "host", host, "ahead", d.String())
	}
}

// unURL drops the *url.Error, whose text holds the URL with its query.
func unURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}
