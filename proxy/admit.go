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
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/sockopt"
	"github.com/egret-proxy/egret/policy"
)

// admission is what admit found out about a connection.
type admission struct {
	conn    *clientConn
	verdict policy.Verdict
	rule    *policy.Rule // of a granted tunnel
	ref     *refusal     // why it may not come in
	head    []byte       // what a captured client has sent already, for its tunnel
}

// admit decides about one connection: evidence, identity, then Policy.Connect. It
// always returns the connection's facts, so that a refusal's record has them too.
func (s *Server) admit(ctx context.Context, e *Entrance, r *http.Request, raw net.Conn) admission {
	p := s.deps.Policy()
	c := &clientConn{id: newID(), entrance: e, admitted: time.Now(), set: p.Digest()}
	a := admission{conn: c}
	if a.ref = s.crowded(); a.ref != nil {
		return a
	}
	if headerBytes(r) > s.limits.HeaderBytes {
		a.ref = refuse(reasonHeaderSize, nil)
		return a
	}
	t, err := policy.ParseTarget(r.RequestURI)
	if err != nil {
		a.ref = refuse(reasonBadTarget, err)
		return a
	}
	c.target = t
	if a.ref = s.identify(ctx, c, e, r, raw); a.ref != nil {
		return a
	}
	adm := c.connect(p, c.admitted)
	c.judged(adm)
	a.verdict, a.rule = adm.Verdict, adm.Rule
	if adm.Verdict == policy.Deny {
		a.ref = refuse(adm.Reason, nil).by(adm.Revoked)
	}
	return a
}

// judged notes what policy said to the connection.
func (c *clientConn) judged(adm policy.Admission) {
	c.dest, c.workInfo, c.verdict = adm.Destination, adm.Workload, adm.Verdict
	if adm.Reason == policy.ReasonRevoked {
		c.revoked = adm.Rule
	}
}

// identify resolves the evidence to a caller, once for the connection. A captured one has
// no request.
func (s *Server) identify(ctx context.Context, c *clientConn, e *Entrance, r *http.Request, raw net.Conn) *refusal {
	start := time.Now()
	defer func() { c.took = time.Since(start) }()
	p, err := evidence(e, r, raw)
	if err != nil {
		return identityRefusal(err)
	}
	if e.Process {
		f, err := factsOf(e.Diag, raw, c.original)
		if errors.Is(err, sockopt.ErrRewritten) {
			return refuse(reasonRewritten, err)
		}
		if err != nil {
			return identityRefusal(err)
		}
		defer f.Close() // not before Resolve is done with the descriptor
		p.Proc = &identity.Process{PID: f.PID, UID: f.UID, Cgroup: f.Cgroup, PodUID: e.PodUID, PIDFD: f.PIDFD()}
	}
	ctx, cancel := context.WithTimeout(ctx, s.limits.Handshake)
	defer cancel()
	if c.caller, err = e.Identity.Resolve(ctx, p); err != nil {
		return identityRefusal(err)
	}
	if c.workload, err = c.caller.Workload(); err != nil {
		return identityRefusal(err)
	}
	return nil
}

// evidence collects what the connection carries. Proxy-Authorization is the only
// header that is ever evidence, only where the listener asks for it, and it is taken
// off the request here, before anything is logged or forwarded (MUST I1, I10).
func evidence(e *Entrance, r *http.Request, raw net.Conn) (identity.Peer, error) {
	var p identity.Peer
	if raw != nil {
		if a, ok := raw.RemoteAddr().(*net.TCPAddr); ok {
			ap := a.AddrPort()
			p.Addr = netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		}
	}
	if r == nil {
		return p, nil
	}
	jwt, err := identity.TakeProxyAuthorization(r.Header)
	if r.TLS != nil {
		p.Chain = r.TLS.PeerCertificates
	}
	if e.Challenge {
		if err != nil {
			return p, err
		}
		p.JWT = jwt
	}
	return p, nil
}

// facts asks the kernel whose socket is at the other end. A connection that is not
// established any more has no owner: what has its address now may be another's socket,
// and so the caller is gone, whatever it was (MUST I5).
func facts(g *sockopt.Diag, raw net.Conn) (sockopt.Facts, error) {
	return factsOf(g, raw, netip.AddrPort{})
}

// factsOf is facts for a captured connection too, whose client believes to be connected to
// the original address.
func factsOf(g *sockopt.Diag, raw net.Conn, original netip.AddrPort) (f sockopt.Facts, err error) {
	switch {
	case g == nil:
		return f, fmt.Errorf("%w: there is nothing to ask the kernel with", identity.ErrUnknown)
	case original.IsValid():
		f, err = g.CapturedFacts(raw, original)
	default:
		f, err = g.PeerFacts(raw)
	}
	switch {
	case errors.Is(err, sockopt.ErrStale):
		return f, fmt.Errorf("%w: %w", identity.ErrGone, err)
	case errors.Is(err, errors.ErrUnsupported) && f.PID != 0:
		return f, nil // a unix socket before Linux 6.5: its user is known, its process is not held
	case err != nil:
		return f, fmt.Errorf("%w: %w", identity.ErrUnknown, err)
	}
	return f, nil
}

// crowded refuses where the node holds as many connections as it may.
func (s *Server) crowded() *refusal {
	if s.table.count.Load() > int64(s.limits.Connections) {
		return refuse(reasonTooMany, nil)
	}
	return nil
}

// record starts a record with what is known of a connection.
func (c *clientConn) record(kind string) audit.Record {
	rec := audit.Record{
		Schema: audit.Schema, Kind: kind, Time: c.admitted, ID: c.id, Listener: c.entrance.Name, Pod: c.entrance.Pod,
		Evidence: c.workload.Evidence, Host: c.target.Host, Port: c.target.Port,
		Verdict: policy.Deny.String(), PolicySet: c.set, TIdentity: c.took, ECH: c.ech,
	}
	if !c.workload.ID.IsZero() {
		rec.Workload = c.workload.ID.String()
	}
	if c.workInfo != nil {
		rec.Owner, rec.Environment = c.workInfo.Owner, c.workInfo.Environment
	}
	return rec
}

// note writes the one record of a connection that never became a request.
func (s *Server) note(c *clientConn, kind string, ref *refusal, status int) {
	rec := c.record(kind)
	rec.Layer, rec.Reason, rec.Status = ref.reason.Layer(), ref.reason.Code(), status
	if !denial(rec.Layer) && (kind != audit.KindHandshake || ref.reason == reasonClientUnused) { // of a failed handshake nothing went on
		rec.Verdict = c.verdict.String()
	}
	if ref.err != nil {
		rec.Detail = ref.err.Error()
	}
	if r := c.revoked; r != nil {
		rec.Policy, rec.PolicyDigest, rec.Owner, rec.Environment = r.Policy, r.Digest, r.Owner, r.Environment
	}
	rec.BytesIn, rec.BytesOut = c.in.Load(), c.out.Load()
	rec.TTotal = time.Since(c.admitted)
	s.original(&rec, c)
	s.metrics.refused(c, ref.reason)
	s.writeRecord(rec)
}

// writeRecord writes a record for something that has already been refused or has ended:
// where no place is free it is counted as lost, since there is nothing left to hold back.
func (s *Server) writeRecord(rec audit.Record) {
	slot, err := s.deps.Audit.Begin()
	if err != nil {
		s.metrics.lost.Inc()
		return
	}
	slot.Write(rec)
}
