// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"github.com/egret-proxy/egret/internal/sockopt"
	"github.com/egret-proxy/egret/internal/steer"
)

// steered is the listener of an entrance whose sockets are in the network namespaces of
// pods. It stands in for them where one is asked for.
type steered struct {
	socket string
	node   *Node
	e      *entrance
	from   *steer.Receiver

	mu   sync.Mutex
	pods map[steer.Pod]*podSockets
}

// podSockets serve one pod.
type podSockets struct {
	listeners []net.Listener
	diag      *sockopt.Diag
	serving   sync.WaitGroup
}

func (n *Node) newSteered(socket string, e *entrance) net.Listener {
	s := &steered{socket: socket, node: n, e: e, pods: map[steer.Pod]*podSockets{}}
	s.from = steer.NewReceiver(steer.ReceiverOptions{Socket: socket, Handler: s, Log: n.log})
	return s
}

// Accept implements net.Listener: connections come in by the pods' own listeners.
func (s *steered) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }

// Close implements net.Listener.
func (s *steered) Close() error { return nil }

// Addr implements net.Listener.
func (s *steered) Addr() net.Addr { return steerAddr(s.socket) }

type steerAddr string

func (a steerAddr) Network() string { return "steer" }
func (a steerAddr) String() string  { return "steer://" + string(a) }

// run serves pods until ctx ends.
func (s *steered) run(ctx context.Context) error {
	s.from.Run(ctx)
	return nil
}

// health implements steering.
func (s *steered) health() error { return s.from.Health() }

// Serve implements steer.Handler.
func (s *steered) Serve(p steer.Pod, listeners []net.Listener, diag *os.File) error {
	defer diag.Close() //nolint:errcheck // AdoptDiag duplicates it
	g, err := sockopt.AdoptDiag(diag)
	if err != nil {
		return err
	}
	ps := &podSockets{listeners: listeners, diag: g}
	for _, l := range listeners {
		e := s.e.proxy()
		e.Listener, e.Diag, e.Pod, e.Original = l, g, p.String(), sockopt.OriginalDst
		ps.serving.Go(func() {
			if err := s.node.server.Serve(e); err != nil {
				s.node.fail(fmt.Errorf("pod %s: %w", p, err))
			}
		})
	}
	s.mu.Lock()
	s.pods[p] = ps
	s.mu.Unlock()
	return nil
}

// Stop implements steer.Handler. Connections that are open go on: they have been
// identified, and their sockets do not need the listener.
func (s *steered) Stop(p steer.Pod) {
	s.mu.Lock()
	ps := s.pods[p]
	delete(s.pods, p)
	s.mu.Unlock()
	if ps == nil {
		return
	}
	for _, l := range ps.listeners {
		_ = l.Close()
	}
	ps.serving.Wait()
	ps.diag.Close()
}
