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
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/policy"
)

// tlsSettings are the configurations of the client's side. There is one outer
// configuration, whose session ticket keys serve all connections, and one inner one for
// each set of protocols and kind of way; nothing is built per connection.
type tlsSettings struct {
	outer     *tls.Config
	far, near offers
}

// offers are what a client may be offered on one kind of way.
type offers struct {
	both *tls.Config // h2, http/1.1
	h1   *tls.Config
}

func (t *tlsSettings) offers(near bool) *offers {
	if near {
		return &t.near
	}
	return &t.far
}

func newTLSSettings(s *Server) *tlsSettings {
	leaf := func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		c, ok := h.Conn.(*clientConn)
		if !ok {
			return nil, errors.New("proxy: handshake outside an admitted connection")
		}
		cert, err := s.deps.Leaves.Leaf(h.Context(), c.target.Host)
		switch {
		case errors.Is(err, certs.ErrBusy):
			return nil, refuse(reasonRate, err)
		case err != nil:
			return nil, refuse(reasonNoLeaf, err)
		}
		return cert, nil
	}
	with := func(exchanges []tls.CurveID, protos ...string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protos, GetCertificate: leaf, CurvePreferences: exchanges}
	}
	on := func(exchanges []tls.CurveID) offers {
		return offers{both: with(exchanges, protoH2, protoH1), h1: with(exchanges, protoH1)}
	}
	t := &tlsSettings{far: on(nil), near: on([]tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521})}
	t.outer = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: leaf, GetConfigForClient: s.configFor}
	return t
}

// configFor checks that the client means the target that it asked for with CONNECT
// (MUST T1) and offers it the protocol that the upstream speaks (parity, MUST H1).
func (s *Server) configFor(h *tls.ClientHelloInfo) (*tls.Config, error) {
	c, ok := h.Conn.(*clientConn)
	if !ok {
		return nil, errors.New("proxy: handshake outside an admitted connection")
	}
	c.ech = slices.Contains(h.Extensions, extensionECH)
	if h.ServerName == "" {
		return nil, refuse(reasonNoSNI, nil)
	}
	name, err := policy.ParseHost(h.ServerName)
	if err != nil || name != c.target.Host {
		return nil, refuse(reasonAuthority, fmt.Errorf("sni %q, connect %q", h.ServerName, c.target.Host))
	}
	return s.parity(h, c), nil
}

// nearby reports a client on this machine that can do without a post-quantum key exchange.
// What that protects against is a recording of today's that is read in the future; what
// passes between two sockets of one kernel is on no wire that could be recorded, and the
// exchange would be a seventh of all that a new connection costs.
func nearby(h *tls.ClientHelloInfo) bool {
	return slices.Contains(h.SupportedCurves, tls.X25519) && sameMachine(h.Conn.RemoteAddr(), h.Conn.LocalAddr())
}

// sameMachine reports that both ends of a connection are here. In doubt they are not.
func sameMachine(remote, local net.Addr) bool {
	switch r := remote.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		l, ok := local.(*net.TCPAddr)
		return r.IP.IsLoopback() || ok && r.IP != nil && r.IP.Equal(l.IP)
	}
	return false
}

// parity picks the protocol. Where the client offers a choice and policy grants it
// anything here, the upstream is asked; if it does not answer, the handshake is finished
// all the same so that the request can be told why.
func (s *Server) parity(h *tls.ClientHelloInfo, c *clientConn) *tls.Config {
	offers := s.tls.offers(nearby(h))
	if !slices.Contains(h.SupportedProtos, protoH2) {
		return offers.h1
	}
	if !s.deps.Policy().Grants(c.workload.ID, c.dest) {
		return offers.both
	}
	proto, err := s.deps.Upstream.Protocol(h.Context(), c.hop(nil), h.SupportedProtos)
	if err != nil {
		c.dialErr = err
		return offers.both
	}
	if proto == protoH1 {
		return offers.h1
	}
	return offers.both
}

// hop is the upstream connection that requests on this connection need.
func (c *clientConn) hop(cert *tls.Certificate) Hop {
	return Hop{ID: c.workload.ID, Target: c.target, Destination: c.dest, Certificate: cert}
}

// intercept runs the client's handshake and hands the connection to the inner server.
// It runs in the goroutine of the CONNECT, so that a client that does not trust the CA
// yields a record.
func (s *Server) intercept(c *clientConn) {
	c.shaking = &lastBytes{}
	tc := tls.Server(c, s.tls.outer)
	ctx, cancel := context.WithTimeout(s.base, s.limits.Handshake)
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		s.handshakeFailed(c, err)
		return
	}
	c.ready, c.shaking = time.Now(), nil
	c.shook, c.proto = [2]int64{c.in.Load(), c.out.Load()}, tc.ConnectionState().NegotiatedProtocol
	if s.queue.push(tc) != nil {
		_ = c.Close()
		s.note(c, audit.KindHandshake, refuse(reasonDrain, nil), 0)
	}
}

// handshakeFailed closes the connection and writes its record.
func (s *Server) handshakeFailed(c *clientConn, err error) {
	ref := classifyClient(c.shaking.refine(err))
	if cause := c.cutCause(); cause != nil && !errors.As(cause, &ref) {
		ref = refuse(reasonDrain, cause)
	}
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) && plain.Conn != nil {
		ref = s.plaintextInside(c, plain)
	} else {
		_ = c.Close()
	}
	if ref.reason == reasonClientTrust {
		s.metrics.untrusted(c)
	}
	s.note(c, audit.KindHandshake, ref, 0)
}

// plaintextInside answers a client that speaks HTTP without TLS inside its tunnel, as
// far as it can be answered: nothing of what it sent is looked at or forwarded.
func (s *Server) plaintextInside(c *clientConn, e tls.RecordHeaderError) *refusal {
	defer c.Close()
	ref := refuse(reasonPlaintext, errors.New("no TLS inside the tunnel"))
	if looksLikeHTTP(e.RecordHeader) {
		writeRawRefusal(c, ref, info(reasonPlaintext).Status, c.id)
	}
	return ref
}

func looksLikeHTTP(head [5]byte) bool {
	switch string(head[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH", "CONNE", "PRI *":
		return true
	}
	return false
}

// ended is called when the inner server is done with a connection. One that sent
// something but never became a request has been answered by net/http itself (400, 431,
// 501) and still gets its record.
func (s *Server) ended(c *clientConn) {
	if c == nil {
		return
	}
	switch {
	case c.requests.Load() > 0 || c.cutCause() != nil:
	case c.used():
		ref, status := s.unread(c)
		s.note(c, audit.KindRequest, ref, status)
	case time.Since(c.ready) < hasty:
		s.note(c, audit.KindHandshake, refuse(reasonClientUnused, nil), 0)
	}
	_ = c.Close()
}

// hasty is how soon after its handshake a client closes that has looked at the
// certificate late and did not like it (GnuTLS does, without an alert). One that merely
// opened a connection ahead of need keeps it longer.
const hasty = 2 * time.Second

// unread says what became of a request that net/http did not hand over. Its answer went
// out encrypted, so the status is told from what is known of the bytes.
func (s *Server) unread(c *clientConn) (*refusal, int) {
	switch in, out := c.in.Load()-c.shook[0], c.out.Load()-c.shook[1]; {
	case in > int64(s.inner.MaxHeaderBytes):
		return refuse(reasonBadRequest, errors.New("the request's header is far too large")), http.StatusRequestHeaderFieldsTooLarge
	case out <= c.chatter():
		return refuse(reasonBadRequest, errors.New("no whole request came before the connection ended")), http.StatusRequestTimeout
	}
	return refuse(reasonBadRequest, errors.New("what came is not a valid HTTP request")), http.StatusBadRequest
}

// used reports whether more went over the connection after the handshake than an unused
// one has: a session's close, and the preface and settings of HTTP/2. Both directions
// count, since what the client sent may have been read together with its handshake, and
// a client that broke off was not answered.
func (c *clientConn) used() bool {
	return c.in.Load()-c.shook[0] > c.chatter() || c.out.Load()-c.shook[1] > c.chatter()
}

// chatter is the most bytes that an unused connection exchanges in one direction.
func (c *clientConn) chatter() int64 {
	if c.proto == protoH2 {
		return 256
	}
	return 48
}

// nearEnd is how long before the end of its evidence a connection asks its client to
// open a new one.
const nearEnd = 30 * time.Second
