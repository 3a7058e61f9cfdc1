// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// Bounds of what a caller of Echo can ask for.
const (
	maxParts    = 10_000
	maxSlow     = time.Minute
	maxDownload = 16 << 30
)

func (e *Echo) anything(w http.ResponseWriter, r *http.Request) {
	rep := e.report(r)
	w.Header().Set("Content-Type", "application/json")
	writeJSON(w, http.StatusOK, rep)
}

// sse sends n events, 20 ms apart, each flushed.
func (e *Echo) sse(w http.ResponseWriter, r *http.Request) {
	e.keep(describe(r))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	e.parts(w, r, "id: %d\ndata: event %[1]d\n\n")
}

// chunked sends n chunks, 20 ms apart, each flushed.
func (e *Echo) chunked(w http.ResponseWriter, r *http.Request) {
	e.report(r)
	w.Header().Set("Content-Type", "text/plain")
	e.parts(w, r, "chunk %d\n")
}

func (e *Echo) parts(w http.ResponseWriter, r *http.Request, format string) {
	n, ok := intParam(r, "n", 3, [2]int{0, maxParts})
	if !ok {
		http.Error(w, "n is out of range", http.StatusBadRequest)
		return
	}
	out := http.NewResponseController(w)
	for i := range n {
		if _, err := fmt.Fprintf(w, format, i); err != nil || out.Flush() != nil || !pause(r, 20*time.Millisecond) {
			return
		}
	}
}

// pause waits and reports whether the request still lives.
func pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// websocket sends every message back until the client closes.
func (e *Echo) websocket(w http.ResponseWriter, r *http.Request) {
	e.keep(describe(r))
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		return // Accept has answered
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, msg, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, msg) != nil {
			return
		}
	}
}

func (e *Echo) trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "Echo-Digest")
	w.Header().Set("Content-Type", "application/json")
	rep := e.report(r)
	writeJSON(w, http.StatusOK, rep)
	w.Header().Set("Echo-Digest", rep.BodySHA256)
}

func (e *Echo) hints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload; as=style")
	w.WriteHeader(http.StatusEarlyHints)
	w.Header().Del("Link")
	e.anything(w, r)
}

// early answers before the body has come, as a server does that has seen enough. On
// HTTP/1.1 net/http would read the body first, unless it is told not to.
func (e *Echo) early(w http.ResponseWriter, r *http.Request) {
	e.keep(describe(r))
	if r.ProtoMajor == 1 {
		_ = http.NewResponseController(w).EnableFullDuplex() // fails only for writers that are not net/http's
		w.Header().Set("Connection", "close")
	}
	http.Error(w, "too large", http.StatusRequestEntityTooLarge)
}

func (e *Echo) bytes(w http.ResponseWriter, r *http.Request) {
	e.keep(describe(r))
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > maxDownload {
		http.Error(w, "the number of bytes is out of range", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyN(w, NewPattern(), n) // the client may leave
}

func (e *Echo) slow(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.PathValue("duration"))
	if err != nil || d < 0 || d > maxSlow {
		http.Error(w, "the duration is out of range", http.StatusBadRequest)
		return
	}
	if pause(r, d) {
		e.anything(w, r)
	}
}

// truncate declares 1000 bytes, sends 10 and breaks the connection.
func (e *Echo) truncate(w http.ResponseWriter, r *http.Request) {
	e.keep(describe(r))
	w.Header().Set("Content-Length", "1000")
	_, _ = io.CopyN(w, NewPattern(), 10)
	_ = http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

func (e *Echo) status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		code = http.StatusBadRequest
	}
	e.report(r)
	w.WriteHeader(code)
}

func (e *Echo) redirect(w http.ResponseWriter, r *http.Request) {
	e.report(r)
	w.Header().Set("Location", r.URL.Query().Get("to"))
	w.WriteHeader(http.StatusFound)
}

func (e *Echo) cookie(w http.ResponseWriter, r *http.Request) {
	http.SetCookie(w, &http.Cookie{Name: "session", Value: "of-the-twin", Path: "/", Secure: true, HttpOnly: true})
	e.anything(w, r)
}

func (e *Echo) challenge(w http.ResponseWriter, r *http.Request) {
	e.report(r)
	w.Header().Set("WWW-Authenticate", `Bearer realm="echo"`)
	w.WriteHeader(http.StatusUnauthorized)
}

// reflect is the badly behaved origin: it sends back the credential that it was given,
// which is what response masking is for.
func (e *Echo) reflect(w http.ResponseWriter, r *http.Request) {
	e.report(r)
	auth := r.Header.Get("Authorization")
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Echo-Authorization", auth)
	_, _ = io.WriteString(w, "you sent "+auth+"\n")
}

// Pattern is an endless reader of bytes that a receiver can check without holding them.
type Pattern struct{ at int64 }

// NewPattern returns a Pattern at its start.
func NewPattern() *Pattern { return &Pattern{} }

// Read implements io.Reader: byte i is i modulo 251, a prime, so that no shift by a
// power of two goes unseen.
func (p *Pattern) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte((p.at + int64(i)) % 251)
	}
	p.at += int64(len(b))
	return len(b), nil
}

// PatternSHA256 returns the digest, in hex, of the first n bytes of a Pattern.
func PatternSHA256(n int64) string {
	h := sha256.New()
	_, _ = io.CopyN(h, NewPattern(), n)
	return hex.EncodeToString(h.Sum(nil))
}
