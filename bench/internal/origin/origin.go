// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package origin is the SaaS of the benchmarks: an HTTPS server that answers as many
// bytes as the path asks for, refuses every request without the credential, and counts.
package origin

import (
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
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
	Connections int64 `json:"connections"`
	Answered    int64 `json:"answered"` // with the credential
	Refused     int64 `json:"refused"`  // without: answered 401
}

// Sub returns what was counted since an earlier time.
func (c Counts) Sub(earlier Counts) Counts {
	return Counts{c.Connections - earlier.Connections, c.Answered - earlier.Answered, c.Refused - earlier.Refused}
}

// CountsPath answers the Counts as JSON, without being counted itself.
const CountsPath = "/-/counts"

// MaxBody bounds what a path can ask for.
const MaxBody = 1 << 30

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

// ServeHTTP answers a path that ends in /N with N bytes.
func (o *Origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := r.Header["Authorization"]
	if len(got) != 1 || subtle.ConstantTimeCompare([]byte(got[0]), o.authorization) != 1 {
		o.refused.Add(1)
		http.Error(w, "no credential", http.StatusUnauthorized)
		return
	}
	if r.URL.Path == CountsPath {
		if err := json.NewEncoder(w).Encode(o.counts()); err != nil {
			return // the client has gone
		}
		return
	}
	size, err := strconv.Atoi(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	if err != nil || size < 0 || size > MaxBody {
		http.Error(w, "the path must end in /N, a number of bytes", http.StatusBadRequest)
		return
	}
	o.answered.Add(1)
	h := w.Header()
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

func (o *Origin) counts() Counts {
	return Counts{o.connections.Load(), o.answered.Load(), o.refused.Load()}
}

// Server returns the HTTPS server, HTTP/1.1 and HTTP/2 over TLS 1.3.
func (o *Origin) Server(cert tls.Certificate) *http.Server {
	return &http.Server{
		Handler:           o,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
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
