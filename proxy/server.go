// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/policy"
)

// Server is the data path. Make one with New, give it entrances with Serve, end it with
// Drain. Safe for concurrent use.
type Server struct {
	deps    Deps
	limits  Limits
	metrics *metrics
	table   *connTable
	queue   *chanListener
	inner   *http.Server
	forward forwarder
	tls     *tlsSettings
	explain explaining

	base    context.Context // ends when the drain's grace is over
	end     context.CancelCauseFunc
	running sync.WaitGroup // goroutines of ours

	busy     atomic.Int64 // handlers of CONNECT and of requests that have not returned
	incoming incoming

	mu     sync.Mutex
	outers []*http.Server
	captor []*captor
	closed bool // Drain has been called: Serve serves no more
}

// New makes a Server and starts what serves intercepted connections. Call Drain or
// Close to end it.
func New(d Deps, l Limits) (*Server, error) {
	if d.Policy == nil || d.Credentials == nil || d.Leaves == nil || d.Upstream == nil || d.Audit == nil || d.Logger == nil {
		return nil, errors.New("proxy: every dependency is required")
	}
	m, err := newMetrics(d.Registerer)
	if err != nil {
		return nil, err
	}
	s := &Server{deps: d, limits: l.withDefaults(), metrics: m, queue: newChanListener()}
	s.base, s.end = context.WithCancelCause(context.Background())
	s.table = newConnTable(s.limits)
	s.tls = newTLSSettings(s)
	s.forward = s.newRelay()
	s.inner = s.newInner()
	s.metrics.live(s)
	s.running.Add(2)
	go func() { defer s.running.Done(); _ = s.inner.Serve(s.queue) }()
	go func() { defer s.running.Done(); s.watch() }()
	return s, nil
}

// newInner makes the one HTTP server of all intercepted connections (DESIGN: ALPN, h2,
// limits, 100-continue, panics, idle and shutdown are the standard library's).
func (s *Server) newInner() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Handler:           s,
		Protocols:         protocols,
		ReadHeaderTimeout: s.limits.Handshake,
		IdleTimeout:       s.limits.Idle,
		MaxHeaderBytes:    2 * s.limits.HeaderBytes, // our own 431, which can be explained, speaks first
		ErrorLog:          libraryLog(s.deps.Logger.With("component", "inner")),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          100,
			MaxReceiveBufferPerStream:     256 << 10,
			MaxReceiveBufferPerConnection: 1 << 20,
			SendPingTimeout:               time.Minute,
			PingTimeout:                   15 * time.Second,
		},
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, clientConnOf(c))
		},
		ConnState: func(c net.Conn, st http.ConnState) {
			if st == http.StateClosed {
				s.ended(clientConnOf(c))
			}
		},
	}
}

func clientConnOf(c net.Conn) *clientConn {
	tc, ok := c.(*tls.Conn)
	if !ok {
		return nil
	}
	cc, _ := tc.NetConn().(*clientConn)
	return cc
}

// Serve accepts connections of one entrance until its listener is closed or Drain is
// called; it returns nil then.
func (s *Server) Serve(e Entrance) error {
	switch {
	case e.Identity == nil || e.Listener == nil:
		return errors.New("proxy: an entrance needs a listener and an identity")
	case e.Original != nil:
		return s.serveCaptured(&e)
	}
	outer := s.newOuter(&e)
	if !s.adopt(outer) {
		return e.Listener.Close()
	}
	l := e.Listener
	if e.TLS != nil {
		l = tls.NewListener(l, entranceTLS(e.TLS))
	}
	if err := outer.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listener %q: %w", e.Name, err)
	}
	return nil
}

// serveCaptured is Serve for a transparent entrance.
func (s *Server) serveCaptured(e *Entrance) error {
	if e.TLS != nil || e.Challenge {
		return fmt.Errorf("listener %q: proxy: a transparent entrance has no TLS of its own and asks for no token", e.Name)
	}
	f := s.newCaptor(e)
	s.mu.Lock()
	if !s.closed {
		s.captor = append(s.captor, f)
	}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		return e.Listener.Close()
	}
	defer s.forget(f)
	defer f.unknown.Wait() // who serves it may then let go of what it asks about callers with
	if err := f.serve(); err != nil {
		return fmt.Errorf("listener %q: %w", e.Name, err)
	}
	return nil
}

// forget takes an entrance that is over from those that a drain ends: pods come and go.
func (s *Server) forget(f *captor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.captor = slices.DeleteFunc(s.captor, func(x *captor) bool { return x == f })
}

// adopt remembers an entrance's server for the drain, unless that has begun.
func (s *Server) adopt(outer *http.Server) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.outers = append(s.outers, outer)
	return true
}

// entranceTLS hardens the listener's own TLS: HTTP/1.1 only, a client certificate is
// asked for and verified by the resolver for every connection; no session is resumed,
// so that nobody comes in without showing it (MUST I3).
func entranceTLS(base *tls.Config) *tls.Config {
	cfg := base.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	cfg.NextProtos = []string{protoH1}
	cfg.SessionTicketsDisabled = true
	cfg.ClientAuth = tls.RequestClientCert
	return cfg
}

// watch ends once a second what must not go on: expired evidence, over-long streams. It
// also writes the start record of streams that have become long.
func (s *Server) watch() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-s.base.Done():
			return
		case <-t.C:
			s.Recheck()
		}
	}
}

// Recheck asks identity and policy again for everything that is running and cuts what
// is no longer allowed. Call it after a new policy is in force. It returns how many
// connections, streams and tunnels were cut.
func (s *Server) Recheck() int {
	p, now, n := s.deps.Policy(), time.Now(), 0
	for _, c := range s.table.all() {
		if _, err := c.caller.Workload(); err != nil {
			c.cut(identityRefusal(err))
			n++
			continue
		}
		for _, x := range c.running() {
			if err := x.recheck(p, s.limits, now); err != nil {
				x.cancel(err)
				n++
			}
		}
	}
	if n > 0 {
		s.metrics.cut.Add(float64(n))
	}
	return n
}

// Drained says how a drain went.
type Drained struct {
	Cut  int           // streams, tunnels and requests that were still open at the end of the grace
	Took time.Duration //
}

// Drain stops accepting, lets what is in flight finish until ctx ends, then cuts the
// rest. No request in flight is cut within the grace, nor is a captured client that has
// connected before and is about to make one.
func (s *Server) Drain(ctx context.Context) Drained {
	start := time.Now()
	s.mu.Lock()
	s.closed = true
	outers, captors := slices.Clone(s.outers), slices.Clone(s.captor)
	s.mu.Unlock()
	var wg sync.WaitGroup
	for _, f := range captors {
		f.close()
	}
	for _, o := range outers {
		wg.Go(func() { _ = o.Shutdown(ctx) })
	}
	s.seeThrough(ctx)
	s.table.drain()
	wg.Go(func() { _ = s.inner.Shutdown(ctx) })
	wg.Wait()
	s.await(ctx, func() bool { return len(s.table.all()) == 0 })
	cut := 0
	for _, c := range s.table.all() {
		cut += max(1, len(c.running()))
		c.cut(refuse(reasonDrain, nil))
	}
	s.close()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterCut)
	defer cancel()
	s.await(last, func() bool { return s.busy.Load() == 0 }) // so that their records are written
	return Drained{Cut: cut, Took: time.Since(start)}
}

// Close cuts everything at once.
func (s *Server) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	s.Drain(ctx)
}

func (s *Server) close() {
	s.end(errDraining)
	s.mu.Lock()
	for _, o := range s.outers {
		_ = o.Close()
	}
	s.mu.Unlock()
	_ = s.inner.Close()
	_ = s.queue.Close()
	s.running.Wait()
}

// afterCut bounds the wait for handlers whose connections have been cut.
const afterCut = 2 * time.Second

// await waits for what the HTTP servers no longer know: upgraded connections, tunnels,
// and those still in their handshake.
func (s *Server) await(ctx context.Context, over func() bool) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for !over() {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// identityRefusal says in the product's words why there is no identity.
func identityRefusal(err error) *refusal {
	for target, reason := range map[error]policy.Reason{
		identity.ErrUnknown:       reasonNoIdentity,
		identity.ErrInvalid:       reasonInvalidEvidence,
		identity.ErrExpired:       reasonSVIDExpired,
		identity.ErrRevoked:       reasonSVIDRevoked,
		identity.ErrGone:          reasonCallerGone,
		identity.ErrWrongAudience: reasonWrongAudience,
		identity.ErrTrustDomain:   reasonTrustDomain,
		identity.ErrUnavailable:   reasonNoSource,
	} {
		if errors.Is(err, target) {
			return refuse(reason, err)
		}
	}
	return refuse(reasonInvalidEvidence, err)
}
