// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/singleflight"

	"github.com/egret-proxy/egret/internal/h1"
	"github.com/egret-proxy/egret/internal/wireerr"
	"github.com/egret-proxy/egret/policy"
)

// Protocols as ALPN names them.
const (
	protoH1 = "http/1.1"
	protoH2 = "h2"
)

// PoolOptions configures upstream connections.
type PoolOptions struct {
	Dialer         *Dialer
	Roots          *x509.CertPool // for destinations without roots of their own; required, never nil
	Dial           time.Duration  // one connect with TLS; default 10 s
	ResponseHeader time.Duration  // wait for the response header; 0: none
	IdlePerKey     int            // idle connections kept per key; default 8
	Idle           int            // over all keys; default 1024
	IdleFor        time.Duration  // an idle connection is closed after this; default 90 s
}

// Pool keeps upstream connections. They are never shared between identities, targets,
// protocols, trust settings or client certificates (MUST T8). Close it when done. Safe
// for concurrent use.
type Pool struct {
	opt       PoolOptions
	transport *http.Transport
	own       *h1.Client
	standard  bool // HTTP/1.1 by net/http, too; for tests
	flights   singleflight.Group
	protos    *lru.Cache[protoKey, protoEntry]
	stop      chan struct{}
	stopped   sync.WaitGroup

	mu     sync.Mutex
	groups map[poolKey]*group
	closed bool
}

// poolKey is everything that two requests must have in common to share a connection.
type poolKey struct {
	id     spiffeid.ID
	target policy.Target
	proto  string
	trust  trust
	cert   string // fingerprint of the client certificate

	standard bool // carried by net/http, where our own client could
}

// trust is what a destination says about whom its upstream must be.
type trust struct{ roots, dial string }

// group is the connections of one key, oldest first, and their TLS sessions.
type group struct {
	conns    []*upstreamConn
	sessions tls.ClientSessionCache
}

// upstreamConn is one verified connection.
type upstreamConn struct {
	cc       carrier
	address  string       // for records: the IP address, viaProxy, or "" where it is not known
	lastIdle atomic.Int64 // unix nanoseconds when it last became idle
	retired  bool         // about to be closed by the sweeper; guarded by Pool.mu
}

// protoKey names what a target's protocol is remembered for.
type protoKey struct {
	target policy.Target
	trust  trust
}

type protoEntry struct {
	proto string
	until time.Time
}

// protoMemory is how long the answer of an upstream to ALPN is believed.
const protoMemory = time.Hour

// alpnDial bounds the connect that finds out an upstream's protocol while the client
// waits in its handshake.
const alpnDial = 3 * time.Second

// freshFor is how long ago a kept HTTP/1.1 connection may have been idle for a request
// with a body to use it: such a request cannot be repeated if the server has just
// closed the connection.
const freshFor = 5 * time.Second

// NewPool makes a Pool and starts its sweeper.
func NewPool(o PoolOptions) (*Pool, error) {
	if o.Dialer == nil || o.Roots == nil {
		return nil, errors.New("proxy: pool needs a dialer and roots")
	}
	o.Dial = orDur(o.Dial, 10*time.Second)
	o.IdleFor = orDur(o.IdleFor, 90*time.Second)
	o.IdlePerKey = orInt(o.IdlePerKey, 8)
	o.Idle = orInt(o.Idle, 1024)
	protos, err := lru.New[protoKey, protoEntry](16384)
	if err != nil {
		return nil, err
	}
	p := &Pool{opt: o, protos: protos, groups: make(map[poolKey]*group), stop: make(chan struct{})}
	p.transport, p.own = newUpstreamTransport(o.ResponseHeader), newH1Client(o.ResponseHeader)
	p.stopped.Add(1)
	go p.sweep()
	return p, nil
}

// expectTimeout is how long a body waits for 100 Continue before it is sent all the same.
const expectTimeout = 2 * time.Second

// newUpstreamTransport makes the transport that turns a verified connection into an
// HTTP client connection. It dials nothing itself: the connection comes in by context.
func newUpstreamTransport(responseHeader time.Duration) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Transport{
		Proxy:                  nil,
		DisableCompression:     true,
		Protocols:              protocols,
		MaxResponseHeaderBytes: maxResponseHeader,
		ResponseHeaderTimeout:  responseHeader,
		ExpectContinueTimeout:  expectTimeout,
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerStream:     512 << 10,
			MaxReceiveBufferPerConnection: 2 << 20,
			SendPingTimeout:               30 * time.Second,
			PingTimeout:                   15 * time.Second,
		},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, ok := ctx.Value(dialedKey{}).(*tls.Conn)
			if !ok {
				return nil, errors.New("proxy: the upstream transport never dials")
			}
			return c, nil
		},
	}
}

type dialedKey struct{}

// Hop says which upstream connection a request needs.
type Hop struct {
	ID          spiffeid.ID
	Target      policy.Target
	Destination *policy.Destination
	Certificate *tls.Certificate // client certificate, or nil
}

func (h Hop) trust() trust { return trust{h.Destination.RootsDigest, h.Destination.Dial} }

func (h Hop) key(proto string) poolKey {
	k := poolKey{id: h.ID, target: h.Target, proto: proto, trust: h.trust()}
	if h.Certificate != nil && len(h.Certificate.Certificate) > 0 {
		sum := sha256.Sum256(h.Certificate.Certificate[0])
		k.cert = hex.EncodeToString(sum[:])
	}
	return k
}

func (h Hop) route() Route {
	return Route{Host: h.Target.Host, Port: h.Target.Port, Dial: h.Destination.Dial, Allow: h.Destination.AllowPrivate}
}

// need narrows what connection a request can take.
type need struct {
	proto string
	fresh bool // only one that was idle for less than freshFor
	brand bool // only a new one

	upgrade bool // one that can switch protocols
}

// acquire returns a connection with one reserved place on it; the caller makes exactly
// one RoundTrip on it or releases it. reused tells whether it had served before.
func (p *Pool) acquire(ctx context.Context, h Hop, n need) (uc *upstreamConn, reused bool, err error) {
	k := h.key(n.proto)
	k.standard = n.proto == protoH1 && (n.upgrade || p.standard)
	for range openRounds {
		if !n.brand {
			if uc := p.kept(k, n); uc != nil {
				return uc, true, nil
			}
		}
		uc, err := p.open(ctx, k, h)
		if err != nil {
			return nil, false, err
		}
		if k.proto == protoH1 || uc.cc.Reserve() == nil { // that of HTTP/1.1 came reserved
			return uc, false, nil
		}
	}
	return nil, false, fmt.Errorf("%w: every connection to %s is full", errConnect, h.Target.Host)
}

// openRounds is how often a request that waits for a shared HTTP/2 connection tries
// again where others have taken all places of the one that was just opened.
const openRounds = 20

// kept takes a place on a kept connection that is as it was left. It looks without the
// lock.
func (p *Pool) kept(k poolKey, n need) *upstreamConn {
	for {
		uc := p.take(k, n)
		if uc == nil || uc.sound() {
			return uc
		}
		p.drop(uc)
	}
}

// take finds a kept connection with a free place, newest first, and forgets dead ones.
func (p *Pool) take(k poolKey, n need) *upstreamConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[k]
	if g == nil {
		return nil
	}
	for i := len(g.conns) - 1; i >= 0; i-- {
		uc := g.conns[i]
		if uc.retired || uc.cc.Err() != nil {
			g.conns = slices.Delete(g.conns, i, i+1)
			continue
		}
		if n.fresh && k.proto == protoH1 && time.Since(time.Unix(0, uc.lastIdle.Load())) > freshFor {
			continue
		}
		// Reserve makes an error and calls the state hook for every busy connection.
		if uc.cc.Available() > 0 && uc.cc.Reserve() == nil {
			return uc
		}
	}
	return nil
}

// open makes a connection and keeps it. HTTP/2 connections are opened once for all who
// wait; the dial is detached from the first caller so that its leaving hurts nobody.
func (p *Pool) open(ctx context.Context, k poolKey, h Hop) (*upstreamConn, error) {
	if k.proto == protoH1 {
		ctx, cancel := context.WithTimeoutCause(ctx, p.opt.Dial, errDialTimeout)
		defer cancel()
		return p.connect(ctx, k, h)
	}
	ch := p.flights.DoChan(k.flight(), func() (any, error) {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), p.opt.Dial, errDialTimeout)
		defer cancel()
		return p.connect(ctx, k, h)
	})
	select {
	case r := <-ch:
		uc, _ := r.Val.(*upstreamConn)
		return uc, r.Err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// flight is an unambiguous text form of the key: every part is quoted.
func (k poolKey) flight() string {
	return fmt.Sprintf("%q %q %d %q %q %q %q", k.id.String(), k.target.Host, k.target.Port, k.proto, k.trust.roots, k.trust.dial, k.cert)
}

var errDialTimeout = fmt.Errorf("%w: time-out", errConnect)

// connect dials, verifies and keeps one connection of the key's protocol.
func (p *Pool) connect(ctx context.Context, k poolKey, h Hop) (*upstreamConn, error) {
	tc, _, err := p.handshake(ctx, k, h, []string{k.proto})
	if err != nil {
		return nil, err
	}
	if got := negotiated(tc); got != k.proto {
		_ = tc.Close()
		p.protos.Add(protoKey{h.Target, h.trust()}, protoEntry{got, time.Now().Add(protoMemory)})
		return nil, fmt.Errorf("%w: %s instead of %s", errALPN, got, k.proto)
	}
	return p.keep(ctx, k, h, tc)
}

// handshake dials the route and verifies the certificate for the rule's host. There is
// no way to skip the verification (MUST T3). asked: the upstream asked for a client
// certificate and the hop has none.
func (p *Pool) handshake(ctx context.Context, k poolKey, h Hop, alpn []string) (tc *tls.Conn, asked bool, err error) {
	raw, err := p.opt.Dialer.DialContext(ctx, h.route())
	if err != nil {
		return nil, false, err
	}
	if s := h1.NewSocket(raw); s != nil {
		raw = s
	}
	roots := h.Destination.Roots
	if roots == nil {
		roots = p.opt.Roots
	}
	cfg := &tls.Config{
		ServerName: h.Target.Host, RootCAs: roots, MinVersion: tls.VersionTLS12,
		NextProtos: alpn, ClientSessionCache: p.sessions(k),
	}
	// It is presented whatever authorities the upstream lists: sending none instead would only
	// hide why it is refused.
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		if h.Certificate != nil {
			return h.Certificate, nil
		}
		asked = true
		return new(tls.Certificate), nil
	}
	tc = tls.Client(raw, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		err = classifyHandshake(ctx, err)
		if asked && errors.Is(err, errConnect) {
			err = &demandError{negotiated(tc), err}
		}
		return nil, asked, err
	}
	return tc, asked, nil
}

// demandError is a handshake that a verified upstream ended for want of a client
// certificate. In TLS 1.2 it does so before the end of the handshake; its protocol is
// known by then.
type demandError struct {
	proto string
	err   error
}

func (e *demandError) Error() string {
	return "it asked for a client certificate and there is none: " + e.err.Error()
}

func (e *demandError) Unwrap() error { return e.err }

func classifyHandshake(ctx context.Context, err error) error {
	var verify *tls.CertificateVerificationError
	switch {
	case errors.As(err, &verify):
		return fmt.Errorf("%w: %w", errVerify, wireerr.Wrap(err))
	case remoteAlert(err) == alertNoALPN:
		return fmt.Errorf("%w: %w", errALPN, wireerr.Wrap(err))
	case ctx.Err() != nil:
		return fmt.Errorf("%w: %w", errConnect, context.Cause(ctx))
	}
	return fmt.Errorf("%w: %w", errConnect, wireerr.Wrap(err))
}

func negotiated(tc *tls.Conn) string {
	if tc.ConnectionState().NegotiatedProtocol == protoH2 {
		return protoH2
	}
	return protoH1
}

// sessions returns the TLS session cache of a key: sessions are as private as
// connections are.
func (p *Pool) sessions(k poolKey) tls.ClientSessionCache {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.group(k).sessions
}

// group returns the key's group, making it if need be. p.mu is held.
func (p *Pool) group(k poolKey) *group {
	g := p.groups[k]
	if g == nil {
		g = &group{sessions: tls.NewLRUClientSessionCache(4)}
		p.groups[k] = g
	}
	return g
}

// keep turns a verified connection into a client connection of the pool. One of HTTP/1.1
// comes with its place reserved, so that nobody else takes it first; learn gives it back.
func (p *Pool) keep(ctx context.Context, k poolKey, h Hop, tc *tls.Conn) (*upstreamConn, error) {
	uc := &upstreamConn{address: p.addressOf(h, tc)}
	idle := func() { uc.lastIdle.Store(time.Now().UnixNano()) }
	idle()
	cc, err := p.carry(ctx, k, tc, idle)
	if err != nil {
		_ = tc.Close()
		return nil, fmt.Errorf("%w: %w", errConnect, wireerr.Wrap(err))
	}
	uc.cc = cc
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = cc.Close()
		return nil, fmt.Errorf("%w: pool is closed", errConnect)
	}
	if k.proto == protoH1 {
		if err := cc.Reserve(); err != nil {
			_ = cc.Close()
			return nil, fmt.Errorf("%w: %w", errConnect, wireerr.Wrap(err))
		}
	}
	g := p.group(k)
	g.conns = append(g.conns, uc)
	return uc, nil
}

// addressOf is how records name the other end of a connection.
func (p *Pool) addressOf(h Hop, conn net.Conn) string {
	if p.opt.Dialer.proxied(h.route()) {
		return viaProxy
	}
	ap, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return ap.Addr().Unmap().String()
}

// Protocol finds out which protocol the upstream speaks for a client that offered
// these, dialling it once per target and hour; the connection is kept for the request
// that follows. offered holds h2, http/1.1 or both. On an error the caller finishes the
// client's handshake all the same and answers the request with the reason.
func (p *Pool) Protocol(ctx context.Context, h Hop, offered []string) (string, error) {
	if !slices.Contains(offered, protoH2) {
		return protoH1, nil
	}
	pk := protoKey{h.Target, h.trust()}
	if e, ok := p.protos.Get(pk); ok && time.Now().Before(e.until) {
		return e.proto, nil
	}
	ch := p.flights.DoChan("alpn "+h.key("").flight(), func() (any, error) {
		ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), alpnDial, errDialTimeout)
		defer cancel()
		return p.learn(ctx, h, pk)
	})
	select {
	case r := <-ch:
		proto, _ := r.Val.(string)
		return proto, r.Err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func (p *Pool) learn(ctx context.Context, h Hop, pk protoKey) (string, error) {
	tc, asked, err := p.handshake(ctx, h.key(protoH2), h, []string{protoH2, protoH1})
	if demand, ok := errors.AsType[*demandError](err); ok { // the credential may be one; which, is not known yet
		p.protos.Add(pk, protoEntry{demand.proto, time.Now().Add(protoMemory)})
		return demand.proto, nil
	}
	if err != nil {
		return "", err
	}
	proto := negotiated(tc)
	p.protos.Add(pk, protoEntry{proto, time.Now().Add(protoMemory)})
	if asked { // in TLS 1.3 it says no only after the handshake: this connection is of no use
		_ = tc.Close()
		return proto, nil
	}
	uc, err := p.keep(ctx, h.key(proto), h, tc)
	if err != nil {
		return "", err
	}
	if proto == protoH1 {
		uc.cc.Release()
	}
	return proto, nil
}

// forget drops what is remembered of an upstream's protocol.
func (p *Pool) forget(h Hop) { p.protos.Remove(protoKey{h.Target, h.trust()}) }

// drop closes a connection that must not be used again.
func (p *Pool) drop(uc *upstreamConn) { _ = uc.cc.Close() }

// sweep closes connections that were idle too long or are too many, and forgets
// groups that hold none.
func (p *Pool) sweep() {
	defer p.stopped.Done()
	t := time.NewTicker(5 * time.Second)
	defer t.Stop()
	for {
		select {
		case <-p.stop:
			return
		case now := <-t.C:
			for _, uc := range p.surplus(now) {
				_ = uc.cc.Close()
			}
			p.inspect()
		}
	}
}

// inspect closes idle connections that the other end has closed. It looks at one at a time,
// which is in use meanwhile.
func (p *Pool) inspect() {
	p.mu.Lock()
	var own []*upstreamConn
	for _, g := range p.groups {
		for _, uc := range g.conns {
			if _, ok := uc.cc.(*h1.Conn); ok {
				own = append(own, uc)
			}
		}
	}
	p.mu.Unlock()
	for _, uc := range own {
		switch {
		case uc.cc.Reserve() != nil: // in use, or closed
		case uc.sound():
			uc.cc.Release()
		default:
			_ = uc.cc.Close()
		}
	}
}

// surplus removes from the groups what has to be closed.
func (p *Pool) surplus(now time.Time) []*upstreamConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out, idle []*upstreamConn
	for k, g := range p.groups {
		kept, mine := make([]*upstreamConn, 0, len(g.conns)), 0
		for i := len(g.conns) - 1; i >= 0; i-- { // newest first
			uc := g.conns[i]
			switch busy := uc.cc.InFlight() > 0; {
			case uc.cc.Err() != nil:
			case busy:
				kept = append(kept, uc)
			case mine >= p.opt.IdlePerKey || now.UnixNano()-uc.lastIdle.Load() > int64(p.opt.IdleFor):
				out = append(out, uc)
			default:
				mine++
				kept = append(kept, uc)
				idle = append(idle, uc)
			}
		}
		if len(kept) == 0 {
			delete(p.groups, k)
			continue
		}
		slices.Reverse(kept)
		g.conns = kept
	}
	return append(out, p.oldest(idle)...)
}

// oldest picks the connections over the limit, longest idle first, and marks them so
// that nobody takes them before they are closed. p.mu is held.
func (p *Pool) oldest(idle []*upstreamConn) []*upstreamConn {
	if len(idle) <= p.opt.Idle {
		return nil
	}
	slices.SortFunc(idle, func(a, b *upstreamConn) int { return int(a.lastIdle.Load() - b.lastIdle.Load()) })
	over := idle[:len(idle)-p.opt.Idle]
	for _, uc := range over {
		uc.retired = true
	}
	return over
}

// Idle reports how many connections are kept and how many of them are idle.
func (p *Pool) Idle() (total, idle int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.groups {
		for _, uc := range g.conns {
			total++
			if uc.cc.InFlight() == 0 {
				idle++
			}
		}
	}
	return total, idle
}

// Close closes every connection and stops the sweeper.
func (p *Pool) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed = true
	groups := p.groups
	p.groups = map[poolKey]*group{}
	p.mu.Unlock()
	close(p.stop)
	p.stopped.Wait()
	for _, g := range groups {
		for _, uc := range g.conns {
			_ = uc.cc.Close()
		}
	}
}
