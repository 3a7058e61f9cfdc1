// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Bounds of the server that the twins run on, like those of a public one.
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 256 << 10
)

// Host is one name that a Server answers to.
type Host struct {
	Name      string // DNS name, lower case
	Handler   http.Handler
	HTTP1Only bool // do not offer h2
}

// Server runs twins on one loopback port, told apart by SNI, over TLS 1.2 and 1.3 with
// HTTP/1.1 and HTTP/2. A name that it does not serve fails the handshake; a Host header
// that differs from the SNI is 421, as RFC 9110 section 15.5.20 has it.
type Server struct {
	listener net.Listener
	http     *http.Server
	hosts    map[string]Host
	cancel   context.CancelFunc
	done     sync.WaitGroup
}

// Listen starts a Server on a free port of 127.0.0.1. The caller closes it.
func Listen(ca *CA, hosts ...Host) (*Server, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the twins: %w", err)
	}
	return ListenOn(ln, ca, hosts...)
}

// ListenOn starts a Server on a listener, such as one in another network namespace, which
// is closed with it.
func ListenOn(ln net.Listener, ca *CA, hosts ...Host) (*Server, error) {
	s := &Server{hosts: make(map[string]Host, len(hosts))}
	configs := make(map[string]*tls.Config, len(hosts))
	for _, h := range hosts {
		cert, err := ca.Certificate(h.Name)
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		s.hosts[h.Name], configs[h.Name] = h, hostConfig(cert, h)
	}
	s.listener = ln
	s.start(&tls.Config{
		MinVersion: tls.VersionTLS12,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if c := configs[strings.ToLower(hello.ServerName)]; c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("no twin is called %q", hello.ServerName)
		},
	})
	return s, nil
}

func hostConfig(cert *tls.Certificate, h Host) *tls.Config {
	protos := []string{"h2", "http/1.1"}
	if h.HTTP1Only {
		protos = protos[1:]
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}, NextProtos: protos}
}

// start serves until Close. Requests carry a context that ends with the server, so that
// hijacked connections (WebSockets) end too.
func (s *Server) start(conf *tls.Config) {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.http = &http.Server{
		Handler:                      http.HandlerFunc(s.serve),
		TLSConfig:                    conf,
		ReadHeaderTimeout:            headerTimeout,
		IdleTimeout:                  idleTimeout,
		MaxHeaderBytes:               maxHeaderBytes,
		BaseContext:                  func(net.Listener) context.Context { return ctx },
		ErrorLog:                     log.New(io.Discard, "", 0), // clients that break off are part of the tests
		DisableGeneralOptionsHandler: true,
	}
	s.done.Go(func() { _ = s.http.ServeTLS(s.listener, "", "") }) // ErrServerClosed after Close
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	if !strings.EqualFold(name, r.TLS.ServerName) {
		http.Error(w, "this connection is for another host", http.StatusMisdirectedRequest)
		return
	}
	s.hosts[strings.ToLower(r.TLS.ServerName)].Handler.ServeHTTP(w, r)
}

// Addr returns "127.0.0.1:port", which is what a Destination's dial names.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close ends all connections and waits for the accept loop to end.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	s.done.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
