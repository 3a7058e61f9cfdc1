// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Command goproxy is the peer that egret is measured against: goproxy's own MITM with
// as little around it as possible. It knows no caller, asks no policy and writes no
// record; it puts one header into every request. The CA has an ECDSA key, HTTP/2 is
// spoken to clients, and the upstream's certificate is verified, as egret does.
//
// What can be set in its favour is: the certificate of a host is made once, upstream
// connections are kept for all clients, and HTTP/2 is spoken upstream too. With -plain
// none of that is set, and goproxy is as it comes.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/elazarl/goproxy"
)

type options struct {
	cert, key, roots, dial, authorization string

	plain bool
}

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "goproxy:", err)
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	f := flag.NewFlagSet("goproxy", flag.ContinueOnError)
	f.StringVar(&o.cert, "ca-cert", "", "PEM `file` of the interception CA")
	f.StringVar(&o.key, "ca-key", "", "PEM `file` of its key")
	f.StringVar(&o.roots, "roots", "", "PEM `file` that the upstream is verified with")
	f.StringVar(&o.dial, "dial", "", "`address` to connect to instead of resolving")
	f.StringVar(&o.authorization, "authorization", "", "`value` of the header that is put in")
	f.BoolVar(&o.plain, "plain", false, "goproxy's own certificates and transport, as they come")
	return o, f.Parse(args)
}

func run(args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	p, err := newProxy(o)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "listening %s\n", l.Addr()); err != nil {
		return err
	}
	s := &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	return s.Serve(l)
}

func newProxy(o options) (*goproxy.ProxyHttpServer, error) {
	ca, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(o.roots)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", o.roots)
	}
	p := goproxy.NewProxyHttpServer()
	p.Logger = log.New(io.Discard, "", 0)
	p.AllowHTTP2 = true
	mitm := &goproxy.ConnectAction{Action: goproxy.ConnectMitm, TLSConfig: goproxy.TLSConfigFromCA(&ca)}
	p.OnRequest().HandleConnect(goproxy.FuncHttpsHandler(func(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		return mitm, host
	}))
	if o.plain {
		p.Tr.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
		p.Tr.DialContext, p.Tr.Proxy = dialer(o.dial), nil
		p.OnRequest().DoFunc(header(o))
		return p, nil
	}
	p.CertStore = &store{certs: map[string]*tls.Certificate{}}
	p.OnRequest().DoFunc(inject(o, roots))
	return p, nil
}

// header puts the header in.
func header(o options) func(*http.Request, *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	return func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		r.Header.Set("Authorization", o.authorization)
		return r, nil
	}
}

// inject puts the header in and sends the request over the protocol that it came in.
func inject(o options, roots *x509.CertPool) func(*http.Request, *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	h1, h2 := upstream(o, roots, false), upstream(o, roots, true)
	return func(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
		r.Header.Set("Authorization", o.authorization)
		ctx.RoundTripper = h1
		if r.ProtoMajor == 2 {
			ctx.RoundTripper = h2
		}
		return r, nil
	}
}

// upstream makes the transport of one protocol, with room for every connection of the
// load: http.Transport keeps two by default and would dial for most requests.
func upstream(o options, roots *x509.CertPool, http2 bool) goproxy.RoundTripper {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	t := &http.Transport{
		Protocols: protocols, DisableCompression: true, MaxIdleConnsPerHost: 256, IdleConnTimeout: 90 * time.Second,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		DialContext:     dialer(o.dial),
	}
	return goproxy.RoundTripperFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
		return t.RoundTrip(r) //nolint:bodyclose // goproxy closes it
	})
}

// dialer connects to one address, whatever is asked for.
func dialer(address string) func(ctx context.Context, network, _ string) (net.Conn, error) {
	return func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}
}

// store makes the certificate of a host once.
type store struct {
	mu    sync.Mutex
	certs map[string]*tls.Certificate
}

// Fetch implements goproxy.CertStorage.
func (s *store) Fetch(host string, gen func() (*tls.Certificate, error)) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.certs[host]; ok {
		return c, nil
	}
	c, err := gen()
	if err == nil {
		s.certs[host] = c
	}
	return c, err
}
