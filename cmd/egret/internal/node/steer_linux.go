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
	"time"

	"github.com/prometheus/client_golang/prometheus"

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

	leaving sync.WaitGroup

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
	s.register(prometheus.WrapRegistererWith(prometheus.Labels{"listener": e.cfg.Name}, n.reg))
	return s
}

// register adds the metrics of the entrance. Names of listeners are unique.
func (s *steered) register(to prometheus.Registerer) {
	count := func(reason, of string, n func(steer.Counts) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "egret_steer_refused_total", Help: "Namespaces (of=namespace) that are not served, and connections of egret's own namespace (of=connection, reason=loop) that were led back to it.",
			ConstLabels: prometheus.Labels{"of": of, "reason": reason},
		}, func() float64 { return float64(n(s.from.Counts())) })
	}
	to.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "egret_steer_pods", Help: "Network namespaces that are served now.",
		}, func() float64 { return float64(s.from.Counts().Serving) }),
		count("error", "namespace", func(c steer.Counts) uint64 { return c.Refused }),
		count("loop", "connection", func(c steer.Counts) uint64 { return c.Loops }))
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

// identityWait bounds how long pods are not served for want of egret's identity. After it
// they are, and every caller is refused with the reason: the pods that SPIRE is made of may
// be among those that start only when egret serves them.
const identityWait = 10 * time.Second

// run serves pods until ctx ends, and all that have connected by then are known. What has
// connected while there was no egret waits in the sockets until callers can be known.
func (s *steered) run(ctx context.Context) {
	wait, cancel := context.WithTimeout(ctx, identityWait)
	_, _ = s.node.Identity(wait) // announce tells why there is none
	cancel()
	s.from.Run(ctx)
	s.leaving.Wait()
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
		e.Listener, e.Diag, e.Pod, e.PodUID, e.Original = l, g, p.String(), p.UID, sockopt.OriginalDst
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

// Stop implements steer.Handler. Connections that are open go on: their sockets do not need
// the listener. The kernel is asked about them until each has been identified.
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
	s.leaving.Go(func() {
		ps.serving.Wait()
		ps.diag.Close()
	})
}
