// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/policy"
)

// tunnel carries bytes unread between the client and the target, for destinations with
// intercept: never and, by setting, for unlisted hosts. No credential can go in.
func (s *Server) tunnel(a *admission) {
	c := a.conn
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.base, s.limits.Handshake)
	up, err := s.deps.Upstream.opt.Dialer.DialContext(ctx, tunnelRoute(c))
	cancel()
	if err != nil {
		ref := classifyUpstream(err)
		status := info(ref.reason).Status
		s.note(c, audit.KindRequest, ref, status)
		c.tell(ref, status)
		return
	}
	defer up.Close()
	slots, err := s.streamSlots()
	if err != nil {
		ref := refuse(reasonBacklog, err)
		s.note(c, audit.KindRequest, ref, info(ref.reason).Status) // counted as lost, where still none is free
		c.tell(ref, info(ref.reason).Status)
		return
	}
	if err := c.opened(); err != nil {
		up.Close()
	}
	t := &pipe{s: s, c: c, rule: a.rule, up: up, head: a.head, start: time.Now()}
	a.head = nil
	c.add(t)
	defer c.remove(t)
	if cause := c.cutCause(); cause != nil { // it came while we dialled
		t.cancel(cause)
	}
	slots[0].Write(t.record(audit.KindStreamStart))
	t.run()
	slots[1].Write(t.record(audit.KindStreamEnd))
	s.metrics.tunnelled(c, t)
}

func tunnelRoute(c *clientConn) Route {
	rt := Route{Host: c.target.Host, Port: c.target.Port}
	if c.dest != nil {
		rt.Dial, rt.Allow = c.dest.Dial, c.dest.AllowPrivate
	}
	return rt
}

// streamSlots reserves the two places that a stream's records need.
func (s *Server) streamSlots() (out [2]audit.Slot, err error) {
	if out[0], err = s.deps.Audit.Begin(); err != nil {
		return out, err
	}
	if out[1], err = s.deps.Audit.Begin(); err != nil {
		out[0].Cancel()
	}
	return out, err
}

// pipe is one running tunnel.
type pipe struct {
	s     *Server
	c     *clientConn
	rule  *policy.Rule
	up    net.Conn
	head  []byte // what a captured client has sent already
	start time.Time

	active  atomic.Int64 // unix nanoseconds of the last byte in either direction
	in, out atomic.Int64

	mu    sync.Mutex
	cause error
}

func (t *pipe) long() bool { return true }

// cancel implements running.
func (t *pipe) cancel(cause error) {
	t.mu.Lock()
	if t.cause == nil {
		t.cause = cause
	}
	t.mu.Unlock()
	_ = t.up.Close()
	_ = t.c.Conn.Close()
}

// recheck implements running: a tunnel goes on only while policy still admits it.
func (t *pipe) recheck(p *policy.Policy, l Limits, now time.Time) error {
	if t.isCut() {
		return nil
	}
	adm := t.c.connect(p, now)
	switch {
	case adm.Verdict != policy.Tunnel:
		return nowDenied(adm.Reason, adm.Revoked)
	case now.Sub(t.start) > maxStream(adm.Rule, l):
		return refuse(reasonMaxStream, nil)
	}
	return nil
}

func (t *pipe) isCut() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.cause != nil
}

func maxStream(r *policy.Rule, l Limits) time.Duration {
	if r != nil && r.MaxStream > 0 && r.MaxStream < l.MaxStream {
		return r.MaxStream
	}
	return l.MaxStream
}

// run copies both ways until both sides have ended. Each side's end is passed on as a
// half-close, so that the other may still answer.
func (t *pipe) run() {
	t.active.Store(time.Now().UnixNano())
	var wg sync.WaitGroup
	wg.Go(func() { t.replay(); t.copy(t.up, t.c.Conn, &t.in) })
	wg.Go(func() { t.copy(t.c.Conn, t.up, &t.out) })
	wg.Wait()
}

// replay sends on what has been read before the tunnel was open. Where it fails the copy
// that follows finds out why.
func (t *pipe) replay() {
	if len(t.head) == 0 {
		return
	}
	_ = t.up.SetWriteDeadline(time.Now().Add(t.s.limits.Handshake))
	n, _ := t.up.Write(t.head)
	_ = t.up.SetWriteDeadline(time.Time{})
	t.in.Add(int64(n))
	t.head = nil
}

// idleStep is the longest time between two looks at whether a tunnel is idle.
const idleStep = 30 * time.Second

// copy moves bytes until src ends, then half-closes dst. Both are the bare connections
// where possible, so that the kernel moves the bytes (splice).
func (t *pipe) copy(dst, src net.Conn, n *atomic.Int64) {
	step := min(idleStep, t.s.limits.TunnelIdle)
	for {
		_ = src.SetReadDeadline(time.Now().Add(step))
		moved, err := io.CopyN(dst, src, 1<<30)
		n.Add(moved)
		if moved > 0 {
			t.active.Store(time.Now().UnixNano())
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			if time.Since(time.Unix(0, t.active.Load())) >= t.s.limits.TunnelIdle {
				t.cancel(refuse(reasonTunnelIdle, nil))
				return
			}
		case errors.Is(err, io.EOF):
			halfClose(dst)
			return
		default:
			t.cancel(err)
			return
		}
	}
}

// halfClose ends the sending side only; a connection that cannot is closed.
func halfClose(c net.Conn) {
	if cw, ok := c.(interface{ CloseWrite() error }); ok {
		_ = cw.CloseWrite()
		return
	}
	_ = c.Close()
}

func (t *pipe) record(kind string) audit.Record {
	rec := t.c.record(kind)
	rec.Verdict, rec.Proto = policy.Tunnel.String(), "tunnel"
	rec.BytesIn, rec.BytesOut = t.in.Load(), t.out.Load()
	rec.TTotal = time.Since(t.c.admitted)
	rec.UpstreamIP = remoteIP(t.up)
	if t.s.deps.Upstream.opt.Dialer.proxied(tunnelRoute(t.c)) {
		rec.UpstreamIP = viaProxy
	}
	t.s.original(&rec, t.c)
	if t.rule != nil {
		rec.Policy, rec.PolicyDigest, rec.Owner = t.rule.Policy, t.rule.Digest, t.rule.Owner
		rec.Environment = t.rule.Environment
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var ref *refusal
	if errors.As(t.cause, &ref) {
		rec.Layer, rec.Reason = ref.reason.Layer(), ref.reason.Code()
	} else if t.cause != nil {
		rec.Layer, rec.Reason, rec.Detail = reasonReset.Layer(), reasonReset.Code(), t.cause.Error()
	}
	return rec
}

// viaProxy stands for the address where the corporate proxy resolved the name: the
// address check is its own (MUST T13).
const viaProxy = "proxy"

func remoteIP(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return ""
	}
	return host
}
