// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http/httpguts"
)

// forwarder sends the request of an exchange and copies the answer back. Where that goes
// wrong it answers itself, or panics with http.ErrAbortHandler.
type forwarder interface{ forward(x *exchange) }

// relay does what httputil.ReverseProxy does, step by step, for ordinary requests: it saves
// the copies of requests, URLs and headers that a general proxy has to make. Requests to
// switch protocols go the standard way. FuzzRelay holds the two to each other.
type relay struct {
	standard forwarder
	buffers  *bufferPool
	log      *log.Logger
}

// standard is the library's own forwarder.
type standard struct{ proxy *httputil.ReverseProxy }

func (s standard) forward(x *exchange) { s.proxy.ServeHTTP(x.w, x.r.WithContext(x.ctx)) }

func (f *relay) forward(x *exchange) {
	if len(x.r.Header["Upgrade"]) > 0 {
		f.standard.forward(x)
		return
	}
	defer x.own.held.release()
	resp, err := wire{x.s}.carry(x, x.outgoing())
	x.own.hints.end()
	if err != nil {
		x.failed(err)
		return
	}
	removeHopByHop(resp.Header)
	if err := x.inspect(resp); err != nil {
		_ = resp.Body.Close()
		x.failed(err)
		return
	}
	f.answer(x.w, resp)
}

// outgoing is the request as it goes on, without the credential.
func (x *exchange) outgoing() *http.Request {
	ctx := x.ctx
	if x.r.ProtoMajor == 2 {
		ctx = x.traced(ctx)
	} else {
		x.own.hints.wanted = true
	}
	out := x.r.WithContext(ctx)
	out.Header = maps.Clone(x.r.Header) // values are replaced, never changed
	if out.Header == nil {
		out.Header = http.Header{}
	}
	out.Body = x.own.held.hold(x.r)
	out.Close = false
	removeHopByHop(out.Header)
	if httpguts.HeaderValuesContainsToken(x.r.Header["Te"], "trailers") {
		out.Header["Te"] = []string{"trailers"}
	}
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		delete(out.Header, name)
	}
	x.rewrite(x.r, out)
	if _, ok := out.Header["User-Agent"]; !ok {
		out.Header["User-Agent"] = x.own.agent[:] // none, instead of Go's own
	}
	return out
}

// answer copies a response to the client.
func (f *relay) answer(w *responseWriter, resp *http.Response) {
	h := w.Header()
	moveHeader(h, resp.Header)
	announced := len(resp.Trailer)
	if announced > 0 { // the transport keeps it apart
		h.Add("Trailer", strings.Join(slices.Collect(maps.Keys(resp.Trailer)), ", "))
	}
	w.WriteHeader(resp.StatusCode)
	err := f.copyWhole(w, resp)
	_ = resp.Body.Close() // now: it fills the trailer
	if err != nil {
		panic(http.ErrAbortHandler) // all that can be done behind a header
	}
	if len(resp.Trailer) > 0 {
		w.Flush() // or net/http would count a short body and leave out the chunks
	}
	prefix := http.TrailerPrefix
	if len(resp.Trailer) == announced {
		prefix = ""
	}
	for name, values := range resp.Trailer {
		for _, v := range values {
			h.Add(prefix+name, v)
		}
	}
}

// moveHeader adds the fields of from, whose names are canonical, and may share its values.
func moveHeader(to, from http.Header) {
	for name, values := range from {
		if old, ok := to[name]; ok {
			values = append(slices.Clip(old), values...)
		}
		to[name] = values
	}
}

// copyWhole copies the body and leaves its last piece to what comes behind it.
func (f *relay) copyWhole(w *responseWriter, resp *http.Response) error {
	w.ending.waits = w.x.r.ProtoMajor == 2
	defer w.ending.close()
	return f.copyBody(w, resp)
}

// copyBody copies a body whose length is known as it comes. Others are streams: each piece
// is flushed, and the header ahead of a body that keeps us waiting.
func (f *relay) copyBody(w *responseWriter, resp *http.Response) error {
	if resp.ContentLength != -1 && !isEventStream(resp.Header) {
		return f.copy(w, resp.Body)
	}
	p := newPrompt(w)
	defer p.stop()
	return f.copy(p, resp.Body)
}

func (f *relay) copy(to io.Writer, from io.Reader) error {
	buf := f.buffers.Get()
	defer f.buffers.Put(buf)
	for {
		n, rerr := from.Read(buf)
		if rerr != nil && !errors.Is(rerr, io.EOF) && !errors.Is(rerr, context.Canceled) {
			f.log.Printf("read error during body copy: %v", rerr)
		}
		if n > 0 {
			switch wrote, err := to.Write(buf[:n]); {
			case err != nil:
				return err
			case wrote != n:
				return io.ErrShortWrite
			}
		}
		switch {
		case rerr == io.EOF: // a wrapped one is not the end
			return nil
		case rerr != nil:
			return rerr
		}
	}
}

// isEventStream reports a body of server-sent events.
func isEventStream(h http.Header) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), "text/event-stream")
}

// prompt writes and flushes.
type prompt struct {
	w     *responseWriter
	timer *time.Timer

	mu   sync.Mutex
	over bool // the header is out, or the handler is about to return
}

func newPrompt(w *responseWriter) *prompt {
	p := &prompt{w: w}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(0, p.header)
	return p
}

// header sends the header, unless a piece of the body has taken it along.
func (p *prompt) header() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.over {
		p.over = true
		p.w.Flush()
	}
}

func (p *prompt) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	n, err := p.w.Write(b)
	p.w.Flush()
	return n, err
}

func (p *prompt) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	p.timer.Stop()
}

// hints lets informational answers through until the final one is there. Those of
// net/http come on a goroutine of the upstream's connection.
type hints struct {
	wanted bool // by the relay, of a client that is not known yet: ours tells of them unasked
	trace  httptrace.ClientTrace
	mu     sync.Mutex
	over   bool
}

func (h *hints) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
}

// Early implements h1.Hints: it passes an informational answer on.
func (x *exchange) Early(code int, header http.Header) error {
	x.own.hints.mu.Lock()
	defer x.own.hints.mu.Unlock()
	if x.own.hints.over {
		return nil
	}
	h := x.w.Header()
	moveHeader(h, header)
	x.w.WriteHeader(code)
	clear(h)
	return nil
}

// heldBody is the caller's body as the upstream connection may use it: it cannot close it,
// since that would wait for bytes that are not asked for yet, nor read it once the handler
// has returned.
type heldBody struct {
	io.ReadCloser
	closed atomic.Bool
}

var errBodyClosed = errors.New("proxy: the body of this request is closed")

// hold returns the body of r to send, or nil.
func (b *heldBody) hold(r *http.Request) io.ReadCloser {
	if r.ContentLength == 0 || r.Body == nil {
		return nil
	}
	b.ReadCloser = r.Body
	return b
}

func (b *heldBody) release() { b.closed.Store(true) }

// Close implements io.Closer.
func (b *heldBody) Close() error {
	b.release()
	return nil
}

// Read implements io.Reader.
func (b *heldBody) Read(p []byte) (int, error) {
	if b.closed.Load() {
		return 0, errBodyClosed
	}
	return b.ReadCloser.Read(p)
}

// hopByHop are the fields that belong to one connection, whatever Connection names.
//
//nolint:gochecknoglobals // a constant table
var hopByHop = []string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// removeHopByHop removes what belongs to one connection (RFC 9110, 7.6.1; MUST H3).
func removeHopByHop(h http.Header) {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}
