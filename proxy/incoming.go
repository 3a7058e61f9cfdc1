// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// incoming are the captured connections that are on their way in: taken from the kernel,
// and not yet refused, tunnelled, or in the inner server's hands. A drain sees them through:
// whoever comes after it waits in the listening socket, if another process holds that too,
// but what has been taken from there nobody else can serve. The zero value is empty. Safe for
// concurrent use.
type incoming struct {
	mu     sync.Mutex
	conns  map[net.Conn]bool // whether it has said a word
	closed bool
}

// begin takes a connection in. false: it is too late, and the caller's to close.
func (i *incoming) begin(conn net.Conn) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return false
	}
	if i.conns == nil {
		i.conns = map[net.Conn]bool{}
	}
	i.conns[conn] = false
	return true
}

// spoke notes that the client has said something.
func (i *incoming) spoke(conn net.Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.conns[conn] = true
}

// end notes that the connection is on its way no more; calling it again is harmless.
func (i *incoming) end(conn net.Conn) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.conns, conn)
}

func (i *incoming) count() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.conns)
}

// hush closes those that have said nothing: they may connect again, and lose nothing.
func (i *incoming) hush() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	for conn, spoke := range i.conns {
		if !spoke {
			_ = conn.Close()
		}
	}
}

// patience is how long a drain waits for the first word of a client that has connected,
// and for its first request. A client that wants something says it within milliseconds.
const patience = time.Second

// seeThrough lets everybody in who has connected before the drain began, to their first
// request, within the grace of ctx.
func (s *Server) seeThrough(ctx context.Context) {
	begun := time.Now()
	word, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s.await(word, func() bool { return s.incoming.count() == 0 })
	s.incoming.hush()
	in, stop := context.WithTimeout(ctx, patience) // one that stalls here must not keep all others from hearing of the end
	defer stop()
	s.await(in, func() bool { return s.incoming.count() == 0 })
	s.await(ctx, func() bool { return !s.expecting(begun) })
}

// expecting reports whether a client has come in just before the drain, and its first
// request is due.
func (s *Server) expecting(begun time.Time) bool {
	if time.Since(begun) > 2*patience {
		return false
	}
	for _, c := range s.table.all() {
		if c.verdict != policy.Tunnel && c.requests.Load() == 0 && begun.Sub(c.admitted) < patience {
			return true
		}
	}
	return false
}
