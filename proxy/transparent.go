// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/policy"
)

// captor is the front of a transparent entrance: it takes connections that rules have
// redirected, finds out where each was going, and brings it the same way as a CONNECT.
type captor struct {
	s       *Server
	e       *Entrance
	unknown sync.WaitGroup // connections that have not been admitted or refused yet
}

func (s *Server) newCaptor(e *Entrance) *captor { return &captor{s: s, e: e} }

// serve accepts until the listener is closed.
func (f *captor) serve() error {
	delay := time.Duration(0)
	for {
		conn, err := f.e.Listener.Accept()
		switch {
		case err == nil:
			delay = 0
			f.take(conn)
		case errors.Is(err, net.ErrClosed):
			return nil
		case !passing(err):
			return err
		default: // http.Server does the same
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(delay):
			case <-f.s.base.Done():
			}
		}
	}
}

// passing are errors of accept that a busy machine gets over.
func passing(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// take starts a connection's own goroutine, unless there are far too many (countConn).
func (f *captor) take(conn net.Conn) {
	l := f.s.limits.Connections
	if f.s.table.count.Add(1) > int64(l)+int64(l)/10+16 || !f.s.incoming.begin(conn) {
		f.s.table.count.Add(-1)
		_ = conn.Close()
		return
	}
	f.s.busy.Add(1)
	f.unknown.Add(1)
	go func() {
		defer f.s.busy.Add(-1)
		defer func() {
			if p := recover(); p != nil {
				f.survive(conn, p)
			}
		}()
		f.carry(conn)
	}()
}

// survive keeps a fault in one connection from ending all others, as http.Server does.
func (f *captor) survive(conn net.Conn, p any) {
	f.s.deps.Logger.Error("panic while serving a captured connection", "listener", f.e.Name, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	_ = conn.Close()
}

// carry brings one connection in, or refuses it.
func (f *captor) carry(conn net.Conn) {
	defer f.s.incoming.end(conn)
	a := f.admit(conn)
	if a.ref == nil {
		a.ref = f.s.enroll(a.conn)
	}
	if a.ref != nil {
		f.refuse(&a)
		return
	}
	if a.verdict == policy.Tunnel { // from here on it is as long as the tunnel
		f.s.incoming.end(conn)
	}
	f.s.enter(&a)
}

// admit is admitCaptured, after which the entrance is not asked about the connection again.
func (f *captor) admit(conn net.Conn) admission {
	defer f.unknown.Done()
	return f.s.admitCaptured(f.e, conn)
}

// refuse closes a connection that may not come in, in the way that its client understands.
// A connection that was opened and closed without a word (a probe of the port) is not worth
// a record.
func (f *captor) refuse(a *admission) {
	defer f.s.table.count.Add(-1)
	status := 0
	if a.conn.speaks == openedHTTP {
		status = orInt(info(a.ref.reason).Status, http.StatusForbidden)
	}
	if a.conn.speaks != openedGone || a.ref.reason == reasonDrain {
		f.s.note(a.conn, audit.KindRequest, a.ref, status)
	}
	a.conn.tell(a.ref, status)
}

// close ends the entrance. Who has connected already is seen through.
func (f *captor) close() { _ = f.e.Listener.Close() }

// admitCaptured is admit for a captured connection: where it was going and what it says
// first take the place of the CONNECT.
func (s *Server) admitCaptured(e *Entrance, raw net.Conn) admission {
	p := s.deps.Policy()
	c := &clientConn{Conn: raw, id: newID(), entrance: e, admitted: time.Now(), set: p.Digest(), speaks: openedOther}
	k := &capture{s: s, p: p, raw: raw, a: admission{conn: c}, deadline: c.admitted.Add(s.limits.Handshake)}
	defer func() { s.metrics.captured.WithLabelValues(e.Name, string(c.speaks)).Inc() }()
	for _, stage := range []func() *refusal{s.crowded, k.origin, k.listen, k.ours, k.target, k.identify, k.decide} {
		if k.a.ref = stage(); k.a.ref != nil {
			return k.a
		}
	}
	k.hand()
	return k.a
}

// capture is one captured connection on its way in.
type capture struct {
	s        *Server
	p        *policy.Policy
	raw      net.Conn
	a        admission
	peek     peeker
	opening  opening
	deadline time.Time
}

// origin finds out where the client wanted to go. That is the client's word: nothing is
// dialled by it but what policy lists by this very address (MUST T4). A connection to
// egret's own address was not redirected, and one that is brought back would go round.
func (k *capture) origin() *refusal {
	c := k.a.conn
	to, err := c.entrance.Original(k.raw)
	if err != nil {
		return refuse(reasonBadTarget, err)
	}
	c.original = netip.AddrPortFrom(to.Addr().Unmap().WithZone(""), to.Port())
	c.target = policy.Target{Host: c.original.Addr().String(), Port: c.original.Port()}
	own := k.s.deps.Upstream.opt.Dialer.Own
	if c.original == plainAddr(c.entrance.Listener.Addr()) || own != nil && own(c.original) {
		return refuse(reasonLoop, fmt.Errorf("it was going to egret's own address %s", c.original))
	}
	return nil
}

// listen reads what the client says first.
func (k *capture) listen() *refusal {
	k.peek.conn = k.raw
	return k.hear(k.a.conn.admitted.Add(silence))
}

func (k *capture) hear(quiet time.Time) *refusal {
	c := k.a.conn
	k.opening = k.peek.open(earlier(quiet, k.deadline), k.deadline)
	c.speaks = k.opening.kind
	switch c.speaks {
	case openedGone:
		return refuse(reasonClientGone, k.opening.err)
	case openedSilent:
	default:
		k.s.incoming.spoke(k.raw)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// ours refuses a connection that egret made itself: its rules do not leave egret alone.
// What egret sends on a connection comes after it has noted it, so that by now it has.
func (k *capture) ours() *refusal {
	c := k.a.conn
	if k.s.deps.Upstream.opt.Dialer.calls.has(plainAddr(k.raw.RemoteAddr()), c.original) {
		return refuse(reasonLoop, fmt.Errorf("egret's own connection to %s came back: the rules must leave its user (--uid) or its mark (upstream.mark) alone", c.original))
	}
	return nil
}

// target is the server name with the port that the client wanted. Without a name it stays
// the address.
func (k *capture) target() *refusal {
	c, o := k.a.conn, &k.opening
	c.ech = o.hello.ech
	if o.kind != openedTLS {
		c.blind = true
		return nil
	}
	switch {
	case errors.Is(o.err, os.ErrDeadlineExceeded):
		return refuse(reasonHandshake, errors.New("its ClientHello did not come in time"))
	case errors.Is(o.err, errHello):
		return refuse(reasonBadHello, o.err)
	case o.err != nil:
		return refuse(reasonClientTLS, fmt.Errorf("the client closed within its ClientHello: %w", o.err))
	case o.hello.serverName == "":
		return nil
	}
	host, err := policy.ParseHost(o.hello.serverName)
	if err != nil {
		return refuse(reasonBadTarget, fmt.Errorf("sni: %w", err))
	}
	c.target.Host = host
	if c.target.IsIP() {
		return refuse(reasonBadTarget, fmt.Errorf("sni %q is an address", host))
	}
	return nil
}

func (k *capture) identify() *refusal {
	return k.s.identify(k.s.base, k.a.conn, k.a.conn.entrance, nil, k.raw)
}

// decide asks policy. Silence where TLS is expected may be a client that connects ahead of
// need: unless a destination lists the very address, it is waited for.
func (k *capture) decide() *refusal {
	c := k.a.conn
	ref := k.ask()
	if k.opening.kind != openedSilent || !k.p.Intercepts(c.target.Port) || ref == nil && c.dest != nil {
		return ref
	}
	if ref := k.hear(k.deadline); ref != nil {
		return ref
	}
	if k.opening.kind == openedSilent {
		return refuse(reasonHandshake, errors.New("it said nothing"))
	}
	c.blind = false
	if ref := k.target(); ref != nil {
		return ref
	}
	return k.ask()
}

func (k *capture) ask() *refusal {
	c := k.a.conn
	adm := c.connect(k.p, c.admitted)
	c.judged(adm)
	k.a.verdict, k.a.rule = adm.Verdict, adm.Rule
	switch {
	case adm.Verdict == policy.Deny:
		return k.denied(adm.Reason).by(adm.Revoked)
	case c.speaks == openedHTTP && c.dest == nil: // plain text is never forwarded, but to an address that is listed
		return k.denied(policy.ReasonUnlistedHost)
	}
	return nil
}

// denied gives the reason that helps: that no destination lists a bare address says little.
func (k *capture) denied(reason policy.Reason) *refusal {
	k.a.verdict, k.a.conn.verdict = policy.Deny, policy.Deny
	if reason != policy.ReasonUnlistedHost {
		return refuse(reason, nil)
	}
	switch c, h := k.a.conn, &k.opening.hello; {
	case c.speaks == openedHTTP:
		return refuse(reasonPlaintext, nil)
	case c.speaks != openedTLS:
		return refuse(reasonNotTLS, fmt.Errorf("the client's first bytes: %s", c.speaks))
	case h.serverName == "":
		return refuse(reasonNoSNI, nil)
	case h.ech:
		return refuse(reason, errors.New("it may not be the true name: the ClientHello carries encrypted_client_hello"))
	}
	return refuse(reason, nil)
}

// hand gives back what has been read: to the handshake, or to the tunnel, which needs the
// bare connection.
func (k *capture) hand() {
	c := k.a.conn
	if k.a.verdict == policy.Tunnel {
		k.a.head = k.opening.head
		return
	}
	c.Conn = &replay{Conn: k.raw, head: k.opening.head}
	k.s.compare(c)
}

// compare looks up the name where the client's address for it is new to us, aside: the
// request does not wait for a signal.
func (s *Server) compare(c *clientConn) {
	d, now := s.deps.Upstream.opt.Dialer, time.Now()
	if !s.comparable(c) || d.answers.fresh(c.target.Host, now) {
		return
	}
	if match, _ := d.answers.has(c.target.Host, c.original.Addr(), now); match {
		return
	}
	s.running.Go(func() {
		ctx, cancel := context.WithTimeout(s.base, learnDeadline)
		defer cancel()
		_, _ = d.resolve(ctx, c.target.Host) // what it finds is in answers
	})
}

// comparable: only where egret resolves the name itself are there two addresses to compare.
func (s *Server) comparable(c *clientConn) bool {
	rt := tunnelRoute(c)
	return c.original.IsValid() && !c.target.IsIP() && rt.Dial == "" && !s.deps.Upstream.opt.Dialer.proxied(rt)
}

// original tells a record where a captured connection was going, and whether the name
// resolves to that here too (MUST T4). It counts a connection once.
func (s *Server) original(rec *audit.Record, c *clientConn) {
	if !c.original.IsValid() {
		return
	}
	rec.Original = c.original.String()
	if !s.comparable(c) {
		return
	}
	match, known := s.deps.Upstream.opt.Dialer.answers.has(c.target.Host, c.original.Addr(), time.Now())
	if rec.OriginalMismatch = known && !match; rec.OriginalMismatch && c.mismatch.CompareAndSwap(false, true) {
		s.metrics.mismatches.WithLabelValues(destinationName(c)).Inc()
	}
}
