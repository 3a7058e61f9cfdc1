// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// guardRest is how long a guard waits that could not accept.
const guardRest = 100 * time.Millisecond

// guard refuses every connection that is captured in the Receiver's own network namespace.
// Among them are those that it makes for others: served, they would go round; left alone,
// they would wait for an answer that never comes.
type guard struct {
	listeners []net.Listener
	running   sync.WaitGroup
}

func newGuard(s sockets, refused *atomic.Uint64) (*guard, error) {
	listeners, err := s.accepting()
	if err != nil {
		return nil, err
	}
	g := &guard{listeners: listeners}
	for _, l := range listeners {
		g.running.Go(func() {
			for {
				c, err := l.Accept()
				if errors.Is(err, net.ErrClosed) {
					return
				}
				if err != nil { // no descriptor is free, say
					time.Sleep(guardRest) //nolint:forbidigo // nothing tells when a descriptor is free
					continue
				}
				refused.Add(1)
				if tcp, ok := c.(*net.TCPConn); ok {
					_ = tcp.SetLinger(0) // a reset: it is told at once
				}
				_ = c.Close()
			}
		})
	}
	return g, nil
}

func (g *guard) end() {
	closeListeners(g.listeners)
	g.running.Wait()
}

// accepting returns listeners of their own descriptors.
func (s sockets) accepting() (out []net.Listener, err error) {
	for _, f := range s.listeners {
		l, err := net.FileListener(f) // duplicates it
		if err != nil {
			closeListeners(out)
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

func closeListeners(list []net.Listener) {
	for _, l := range list {
		_ = l.Close()
	}
}
