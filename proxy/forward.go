// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/internal/wireerr"
)

// newRelay makes the one forwarder of all exchanges. It copies both ways without
// buffering bodies; everything that depends on the request is in its exchange.
func (s *Server) newRelay() *relay {
	f := &relay{buffers: &bufferPool{}, log: libraryLog(s.deps.Logger.With("component", "forward"))}
	f.standard = standard{&httputil.ReverseProxy{
		Rewrite:        func(pr *httputil.ProxyRequest) { exchangeFrom(pr.In.Context()).rewrite(pr.In, pr.Out) },
		Transport:      wire{s},
		BufferPool:     f.buffers,
		ModifyResponse: func(resp *http.Response) error { return exchangeFrom(resp.Request.Context()).inspect(resp) },
		ErrorHandler:   func(_ http.ResponseWriter, r *http.Request, err error) { exchangeFrom(r.Context()).failed(err) },
		ErrorLog:       f.log,
	}}
	return f
}

// rewrite builds the outgoing request: the URL from the rule's target and the very bytes
// of path and query that were checked (MUST T2, H6), the headers from what is allowed to
// pass. The credential is not here yet: it is the last touch, in RoundTrip.
func (x *exchange) rewrite(from, to *http.Request) {
	authority := x.c.target.Host
	if x.c.target.Port != 443 {
		authority = x.c.target.String()
	}
	in := from.URL
	to.URL = &x.own.url
	x.own.url = url.URL{
		Scheme: "https", Host: authority,
		Path: in.Path, RawPath: in.RawPath, RawQuery: in.RawQuery, ForceQuery: in.ForceQuery,
	}
	if path, _, _ := strings.Cut(from.RequestURI, "?"); !strings.HasPrefix(path, "//") {
		to.URL.Opaque = path // as it came: url.URL would encode bytes anew that it likes otherwise
	}
	to.Host = authority
	if x.observed {
		cleanObserved(to.Header)
		x.rec.CallerCredential = judge(from.Header["Authorization"], "")
	} else {
		x.rec.CallerCredential = cleanRequest(to.Header, x.decision.Rule, x.rec.Fingerprint)
	}
	if d := x.c.dest; d.Refused != nil && x.cred != nil {
		to.Header.Set("Accept-Encoding", readableEncoding(from.Header))
	}
	if x.masked() {
		askPlain(to.Header)
	}
	passTrailers(from, to)
	if to.Body != nil && from.ProtoMajor == 2 {
		to.Body = &uploadBody{ReadCloser: to.Body, x: x}
	}
}

// readableEncoding narrows Accept-Encoding to what a small refusal can be read in.
func readableEncoding(h http.Header) string {
	for _, e := range strings.Split(strings.ToLower(strings.Join(h["Accept-Encoding"], ",")), ",") {
		name, weight, _ := strings.Cut(e, ";")
		q := strings.TrimRight(strings.TrimPrefix(strings.TrimSpace(weight), "q="), ".0")
		if strings.TrimSpace(name) == "gzip" && (weight == "" || q != "") {
			return "gzip"
		}
	}
	return "identity"
}

// passTrailers lets announced trailers of the caller follow the body, filtered. They
// exist only once the body has been read, so they are copied at its end.
func passTrailers(from, to *http.Request) {
	if len(from.Trailer) == 0 || to.Body == nil {
		to.Trailer = nil
		return
	}
	out := from.Trailer.Clone()
	cleanTrailer(out)
	to.Trailer = out
	to.Body = &trailingBody{ReadCloser: to.Body, in: from, out: out}
}

type trailingBody struct {
	io.ReadCloser
	in  *http.Request
	out http.Header
}

func (b *trailingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		for name := range b.out {
			b.out[name] = b.in.Trailer[name]
		}
	}
	return n, err
}

// inspect looks at the response header before it goes to the client.
func (x *exchange) inspect(resp *http.Response) error {
	if x.isCut() { // an upstream may answer to a body that breaks off
		return context.Cause(x.ctx)
	}
	cleanResponse(resp.Header, x.decision.Rule, x.cred != nil)
	dropReflected(resp.Header, x.injected)
	x.rec.UpstreamID = upstreamID(resp.Header)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		if len(x.r.Header["Upgrade"]) == 0 { // the library would refuse it too, but leak the connection
			return refuse(reasonProtocol, errors.New("the upstream switched protocols unasked"))
		}
		return nil
	}
	cleanTrailer(resp.Trailer)
	if x.masked() {
		if err := x.maskBody(resp); err != nil {
			return err
		}
	}
	x.own.answer = watchedBody{ReadCloser: resp.Body, x: x, resp: resp}
	resp.Body = &x.own.answer
	return nil
}

// watchedBody remembers whether the upstream or the client ended a response early, and
// filters what comes behind the body.
type watchedBody struct {
	io.ReadCloser
	x    *exchange
	resp *http.Response
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		cleanTrailer(b.resp.Trailer)
		dropReflected(b.resp.Trailer, b.x.injected)
	default:
		err = wireerr.Wrap(err)
		b.x.readErr = err
	}
	return n, err
}

// failed answers where there is no response from the upstream.
func (x *exchange) failed(err error) {
	if x.w.refusal != nil {
		x.refuse(x.w.refusal)
		return
	}
	var ref *refusal
	switch cause := context.Cause(x.ctx); {
	case errors.As(cause, &ref), errors.As(err, &ref):
	case cause != nil, x.bodyErr.Load() && classifyUpstream(err).reason == reasonReset:
		x.mark(refuse(reasonClientGone, cause))
		x.rec.Status = statusClientGone
		panic(http.ErrAbortHandler)
	default:
		ref = classifyUpstream(err)
	}
	x.refuse(ref)
}

// responseWriter counts and remembers what the client gets.
type responseWriter struct {
	http.ResponseWriter
	x       *exchange
	status  int
	length  int64        // declared by Content-Length; 0: not, or nothing
	n       atomic.Int64 // to the client
	upIn    atomic.Int64 // from the client on an upgraded connection
	refusal *refusal     // why Hijack refused
	ending  ending
}

// Unwrap lets http.ResponseController reach the connection's own writer.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader implements http.ResponseWriter. Informational answers pass and are
// filtered like the final one.
func (w *responseWriter) WriteHeader(status int) {
	if status >= 200 {
		w.status = status
		w.x.answer()
		w.x.announce(w.Header())
		w.length, _ = strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	} else {
		if status == http.StatusContinue {
			w.x.bodyAsked.Store(true)
		}
		cleanResponse(w.Header(), w.x.decision.Rule, w.x.cred != nil)
		dropReflected(w.Header(), w.x.injected)
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter. What the SaaS has sent is on its way to the
// client at once: bodies of unknown length are flushed by the forwarder, header first,
// those of a declared length here, with their first bytes. So a small answer is one
// write and one TLS record, header and body. With HTTP/2 the last piece waits for the end
// of the stream, which most often is there already and goes with it, but not for long.
func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	n, err := w.ResponseWriter.Write(p)
	w.n.Add(int64(n))
	switch {
	case err != nil || w.length <= 0:
	case w.ending.waits && w.n.Load() >= w.length:
		w.ending.flushSoon(w)
	default:
		w.Flush()
	}
	return n, err
}

// Flush implements http.Flusher for the copy loop.
func (w *responseWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack gives the forwarder the client's connection for an upgraded protocol. It first
// takes the place of the record of the stream's end, and it replays what the client has
// sent early, which httputil.ReverseProxy would lose.
func (w *responseWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	slot, err := w.x.s.deps.Audit.Begin()
	if err != nil {
		w.refusal = refuse(reasonBacklog, err)
		return nil, nil, err
	}
	conn, brw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		slot.Cancel()
		return nil, nil, err
	}
	w.status = http.StatusSwitchingProtocols
	w.x.startStream(slot)
	w.x.announce(w.Header())
	early, _ := brw.Reader.Peek(brw.Reader.Buffered())
	return &streamConn{Conn: conn, early: early, w: w}, brw, nil
}

// startStream writes the start record into the exchange's own place and keeps the new
// one for the end.
func (x *exchange) startStream(end audit.Slot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.upgraded.Store(true)
	x.answering = true
	if x.cutting { // the watcher came first: the connection is ours to close
		_ = x.c.Close()
	}
	if x.started { // it was long before it was upgraded
		end.Cancel()
		return
	}
	rec := x.startRecord(x.start)
	rec.Status, rec.Proto = http.StatusSwitchingProtocols, x.rec.Proto
	rec.TTotal = 0
	x.slot.Write(rec)
	x.slot, x.started = end, true
}

// streamConn is the client's side of an upgraded connection.
type streamConn struct {
	net.Conn
	early []byte
	w     *responseWriter
}

func (c *streamConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		c.w.upIn.Add(int64(n))
		return n, nil
	}
	n, err := c.Conn.Read(p)
	c.w.upIn.Add(int64(n))
	return n, err
}

func (c *streamConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.w.n.Add(int64(n))
	return n, err
}

// CloseWrite passes a half-close on to the TLS connection.
func (c *streamConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// bufferPool keeps copy buffers. A buffer is only ever read up to what was just written
// into it, so no byte of one exchange can reach another.
type bufferPool struct{ pool sync.Pool }

const copyBuffer = 32 << 10

// Get implements httputil.BufferPool.
func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[copyBuffer]byte); ok {
		return p[:]
	}
	return make([]byte, copyBuffer)
}

// Put implements httputil.BufferPool. p is one that Get returned.
func (b *bufferPool) Put(p []byte) { b.pool.Put((*[copyBuffer]byte)(p)) }
