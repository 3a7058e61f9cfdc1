// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package origin is the SaaS of the benchmark: over HTTPS it answers as many bytes as
// the path asks for and takes as many as come, echoes WebSocket messages and serves a
// small gRPC service, and it refuses whoever does not show the credential. So a proxy
// that does not put it in cannot look fast.
package origin

import (
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Counts are what an origin has seen since it was started.
type Counts struct {
	Connections int64 `json:"connections"` // of HTTP; those of gRPC are not counted
	Answered    int64 `json:"answered"`    // with the credential: requests, calls, and messages of a WebSocket
	Refused     int64 `json:"refused"`     // without: answered 401, or Unauthenticated
}

// Sub returns what was counted since an earlier time.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{c.Connections - earlier.Connections, c.Answered - earlier.Answered, c.Refused - earlier.Refused}
}

const (
	// CountsPath answers the Counts as JSON, without being counted itself.
	CountsPath = "/-/counts"
	// WebSocketPath is the last element of paths that are upgraded to an echo.
	WebSocketPath = "ws"
	// ReceivedHeader of an answer says how many bytes the request's body had.
	ReceivedHeader = "Received"
	// MaxBody bounds what a path can ask for.
	MaxBody = 1 << 30
)

// Origin is the server's handler. Make it with New.
type Origin struct {
	authorization []byte
	chunk         []byte

	connections, answered, refused atomic.Int64
}

// New makes an Origin that answers requests with "Authorization: Bearer token".
func New(token string) *Origin {
	o := &Origin{authorization: []byte("Bearer " + token), chunk: make([]byte, 64<<10)}
	for i := range o.chunk {
		o.chunk[i] = byte('a' + i%26)
	}
	return o
}

// allowed reports whether the values of Authorization are exactly the credential, and
// counts those that are not.
func (o *Origin) allowed(got []string) bool {
	if len(got) == 1 && subtle.ConstantTimeCompare([]byte(got[0]), o.authorization) == 1 {
		return true
	}
	o.refused.Add(1)
	return false
}

// ServeHTTP reads the whole body of a request and answers a path that ends in /N with N
// bytes; it upgrades one that ends in /ws.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !o.allowed(r.Header["Authorization"]) {
		http.Error(w, "no credential", http.StatusUnauthorized)
		return
	}
	last := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.URL.Path == CountsPath:
		if err := json.NewEncoder(w).Encode(o.counts()); err != nil {
			return // the client has gone
		}
	case last == WebSocketPath:
		o.echo(w, r)
	default:
		o.answer(w, r, last)
	}
}

func (o *Origin) answer(w http.ResponseWriter, r *http.Request, last string) {
	size, err := strconv.Atoi(last)
	if err != nil || size < 0 || size > MaxBody {
		http.Error(w, "the path must end in /N, a number of bytes, or in /"+WebSocketPath, http.StatusBadRequest)
		return
	}
	h := w.Header()
	if r.ContentLength != 0 {
		got, err := drain(r.Body)
		if err != nil {
			return // the client has gone
		}
		h.Set(ReceivedHeader, strconv.FormatInt(got, 10))
	}
	o.answered.Add(1)
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Content-Length", strconv.Itoa(size))
	for size > 0 {
		n, err := w.Write(o.chunk[:min(size, len(o.chunk))])
		if err != nil {
			return
		}
		size -= n
	}
}

// drain reads a body in large steps: io.Discard takes 8 KiB at a time.
func drain(body io.Reader) (total int64, err error) {
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		total += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
}

func (o *Origin) counts() Counts {
	return Counts{o.connections.Load(), o.answered.Load(), o.refused.Load()}
}

// Server returns the HTTPS server, HTTP/1.1 and HTTP/2 over TLS 1.3.
func (o *Origin) Server(cert tls.Certificate) *http.Server {
	return &http.Server{
		Handler:           o,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       10 * time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0), // resets at the end of a window
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 250},
		ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				o.connections.Add(1)
			}
		},
	}
}
