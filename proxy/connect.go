// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/policy"
)

// front is the forward proxy of one entrance. goproxy is its front door only: our
// handler runs before it (identity, policy, refusals that keep the connection), an
// allowed CONNECT goes through goproxy and comes out at ConnectHijack, and from there
// the connection is ours. goproxy's own tunnel, MITM loop, signer and transport are
// never reached: they dial what the request says and accept plain text.
type front struct {
	s    *Server
	e    *Entrance
	door *goproxy.ProxyHttpServer
}

// newOuter makes the HTTP/1.1 server in front of one entrance.
func (s *Server) newOuter(e *Entrance) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler:                      &front{s: s, e: e, door: s.newDoor()},
		Protocols:                    protocols,
		ReadHeaderTimeout:            s.limits.Handshake,
		IdleTimeout:                  s.limits.Idle,
		MaxHeaderBytes:               2 * s.limits.HeaderBytes, // our own 431 speaks first
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     libraryLog(s.deps.Logger.With("listener", e.Name)),
		BaseContext:                  func(net.Listener) context.Context { return s.base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, rawKey{}, rawConn(c))
		},
		ConnState: func(c net.Conn, st http.ConnState) { s.countConn(c, st) },
	}
}

type rawKey struct{}

// rawConn finds the socket under a listener's TLS.
func rawConn(c net.Conn) net.Conn {
	if tc, ok := c.(*tls.Conn); ok {
		return tc.NetConn()
	}
	return c
}

// countConn counts connections from accept to close. A hijacked connection stays
// counted until we close it. Far over the limit nobody is even answered.
func (s *Server) countConn(c net.Conn, st http.ConnState) {
	switch st {
	case http.StateNew:
		if s.table.count.Add(1) > int64(s.limits.Connections)+int64(s.limits.Connections)/10+16 {
			_ = c.Close()
		}
	case http.StateClosed:
		s.table.count.Add(-1)
	}
}

// newDoor configures goproxy so that nothing but our hijack can happen.
func (s *Server) newDoor() *goproxy.ProxyHttpServer {
	g := goproxy.NewProxyHttpServer()
	g.Verbose = false
	g.Logger = log.New(io.Discard, "", 0)
	g.Tr = &http.Transport{Proxy: nil, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("proxy: the front door never dials")
	}}
	g.ConnectDial = nil
	g.NonproxyHandler = http.NotFoundHandler()
	g.OnRequest().HandleConnect(goproxy.FuncHttpsHandler(func(host string, ctx *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
		a, ok := ctx.Req.Context().Value(admissionKey{}).(*admission)
		if !ok || a.ref != nil || a.verdict == policy.Deny {
			return rejectConnect, host
		}
		return &goproxy.ConnectAction{Action: goproxy.ConnectHijack, Hijack: func(*http.Request, net.Conn, *goproxy.ProxyCtx) {
			s.enter(a)
		}}, host
	}))
	return g
}

//nolint:gochecknoglobals // a constant; goproxy's own RejectConnect carries its built-in CA
var rejectConnect = &goproxy.ConnectAction{Action: goproxy.ConnectReject}

type admissionKey struct{}

// ServeHTTP implements http.Handler for everything that comes in before TLS.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.s.busy.Add(1)
	defer f.s.busy.Add(-1)
	if r.Method != http.MethodConnect {
		f.plain(w, r)
		return
	}
	raw, _ := r.Context().Value(rawKey{}).(net.Conn)
	a := f.s.admit(r.Context(), f.e, r, raw)
	if a.ref != nil {
		f.refuseConnect(w, &a)
		return
	}
	ctx := context.WithValue(context.WithoutCancel(r.Context()), admissionKey{}, &a)
	f.door.ServeHTTP(&guardedWriter{ResponseWriter: w, s: f.s, a: &a}, r.WithContext(ctx))
	if !a.conn.hijacked { // goproxy did not come to the hijack: nothing may be answered as if it had
		panic(http.ErrAbortHandler)
	}
}

// enroll takes the connection's place in the table.
func (s *Server) enroll(c *clientConn) *refusal {
	switch err := s.table.admit(c); {
	case errors.Is(err, errDraining):
		return refuse(reasonDrain, nil)
	case err != nil:
		return refuse(reasonTooMany, err)
	}
	return nil
}

// guardedWriter gives goproxy a Hijack that fails where the client has already sent
// bytes after its CONNECT: goproxy would drop them, and a client that talks before our
// 200 is trying something (MUST H8, CVE-2025-64763).
type guardedWriter struct {
	http.ResponseWriter
	s *Server
	a *admission
}

// Hijack implements http.Hijacker.
func (g *guardedWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	c, brw, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	cc := g.a.conn
	cc.hijacked, cc.Conn = true, c
	var ref *refusal
	if brw.Reader.Buffered() > 0 {
		ref = refuse(reasonEarlyData, nil)
	} else {
		ref = g.s.enroll(cc)
	}
	if ref != nil {
		g.s.table.count.Add(-1)
		status := info(ref.reason).Status
		g.s.note(cc, audit.KindRequest, ref, status)
		writeRawRefusal(c, ref, orInt(status, http.StatusServiceUnavailable), cc.id)
		return nil, nil, ref
	}
	return c, brw, nil
}

// enter is where an admitted connection becomes ours.
func (s *Server) enter(a *admission) {
	if a.verdict == policy.Tunnel {
		s.tunnel(a)
		return
	}
	if err := a.conn.opened(); err != nil {
		_ = a.conn.Close()
		return
	}
	s.intercept(a.conn)
}

const connectOK = "HTTP/1.1 200 Connection established\r\n\r\n"

// refuseConnect answers a CONNECT that may not come in. A 407 keeps the connection, for
// clients that answer the challenge on it (git); everything else carries the reason in
// its status line, because most clients show nothing else, and closes.
func (f *front) refuseConnect(w http.ResponseWriter, a *admission) {
	i := info(a.ref.reason)
	if f.e.Challenge && a.ref.reason.Layer() == "identity" {
		f.s.note(a.conn, audit.KindRequest, a.ref, http.StatusProxyAuthRequired)
		h := w.Header()
		setRefusalHeaders(h, a.ref, a.conn.id)
		h.Add("Proxy-Authenticate", `Basic realm="egret: a JWT-SVID as password", charset="UTF-8"`)
		h.Add("Proxy-Authenticate", `Bearer realm="egret"`)
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusProxyAuthRequired)
		return
	}
	status := i.Status
	if status == 0 {
		status = http.StatusServiceUnavailable
	}
	f.s.note(a.conn, audit.KindRequest, a.ref, status)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer f.s.table.count.Add(-1)
	writeRawRefusal(conn, a.ref, status, a.conn.id)
}

// writeRawRefusal writes a refusal as raw HTTP/1.1, with the reason in the status line,
// and closes the connection without losing it to a reset.
func writeRawRefusal(conn net.Conn, ref *refusal, status int, id string) {
	defer conn.Close()
	body := newProblem(info(ref.reason), status, id).body()
	h := http.Header{}
	setRefusalHeaders(h, ref, id)
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Connection", "close")
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP/1.1 %d egret %s id=%s\r\n", status, ref.reason, id)
	_ = h.Write(&b)
	b.WriteString("\r\n")
	b.Write(body)
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return
	}
	if cw, ok := conn.(interface{ CloseWrite() error }); ok && cw.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, 64<<10)
	}
}

// plain answers what is not CONNECT: http:// URLs are never forwarded, and a browser
// that opens the proxy's address is told what it is.
func (f *front) plain(w http.ResponseWriter, r *http.Request) {
	c := &clientConn{id: newID(), entrance: f.e, admitted: time.Now(), set: f.s.deps.Policy().Digest()}
	reason := reasonBadTarget
	if r.URL.IsAbs() {
		reason = reasonPlaintext
		if t, err := policy.ParseTarget(withPort(r.URL.Host, "80")); err == nil {
			c.target = t
		}
	}
	ref := refuse(reason, nil)
	w.Header().Set("Connection", "close")
	status := writeRefusal(w, r, ref, c.id)
	f.s.note(c, audit.KindRequest, ref, status)
}

func withPort(host, port string) string {
	if _, _, err := net.SplitHostPort(host); err == nil {
		return host
	}
	return host + ":" + port // brackets stay: they may hold an address only
}
