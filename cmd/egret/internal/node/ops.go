// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/internal/ops"
)

// buildMetrics binds the listener of metrics and health.
func (n *Node) buildMetrics() (err error) {
	if n.cfg.Metrics.Address == "" {
		return nil
	}
	if n.metricsAt, err = net.Listen("tcp", n.cfg.Metrics.Address); err != nil {
		return fmt.Errorf("metrics.address: %w", err)
	}
	n.onClose(func() { _ = n.metricsAt.Close() })
	return nil
}

// served is one of the small servers beside the data path.
type served interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
}

// serveOps serves the metrics listener and the admin socket until ctx ends.
func (n *Node) serveOps(ctx context.Context, g *errgroup.Group, others *sync.WaitGroup) {
	serve := func(s served, l net.Listener) {
		g.Go(func() error { return s.Serve(l) })
		others.Go(func() {
			<-ctx.Done()
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			_ = s.Shutdown(last) // what is cut off asks again
		})
	}
	if n.metricsAt != nil {
		m := ops.NewMetrics(ops.MetricsOptions{Gatherer: n.reg, Checks: n.checks(), Version: n.opt.Version, Logger: n.log})
		serve(ops.NewServer(m, n.log), n.metricsAt)
		n.log.Info("metrics and health", "address", n.metricsAt.Addr().String())
	}
	if n.admin != nil {
		serve(n.admin, n.adminAt)
		n.log.Info("admin", "socket", n.adminAt.Addr().String())
	}
}

// checks are what /readyz asks.
func (n *Node) checks() []ops.Check {
	list := []ops.Check{
		{Name: "draining", Run: n.checkDraining},
		{Name: "identity", Run: func() error { _, err := n.source.SVID(); return err }},
		{Name: "audit", Advisory: n.cfg.Audit.OnFull == "drop", Run: n.journal.Healthy},
		{Name: "policy", Advisory: true, Run: n.reload.health},
		{Name: "ca", Run: n.checkCA},
	}
	for _, e := range n.entrances {
		if pods, ok := e.listener.(steering); ok {
			list = append(list, ops.Check{Name: "steer", Advisory: true, Run: pods.health})
		}
	}
	return list
}

func (n *Node) checkDraining() error {
	if n.draining.Load() {
		return errors.New("egret is shutting down")
	}
	return nil
}
