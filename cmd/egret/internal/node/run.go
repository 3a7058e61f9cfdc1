// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/internal/ops"
)

// Run serves until ctx ends, then drains and takes everything down. It returns why it
// could not serve, or nil. SIGHUP reloads policy and reopens the audit file.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	g, ctx := errgroup.WithContext(ctx)
	side, stopSide := context.WithCancel(context.WithoutCancel(ctx)) // what outlives the drain
	defer stopSide()
	var others sync.WaitGroup
	for _, e := range n.entrances {
		g.Go(func() error { return n.server.Serve(e.proxy()) })
	}
	if err := n.serveOps(side, g, &others); err != nil {
		return err
	}
	others.Go(func() { n.reload.watch(side) })
	others.Go(func() { n.signals(side) })
	others.Go(func() { n.announce(side) })
	g.Go(func() error {
		<-ctx.Done()
		n.drain()
		stopSide()
		return nil
	})
	err := g.Wait()
	stopSide()
	others.Wait()
	return err
}

// drain lets what is in flight finish within the grace and tells how it went.
func (n *Node) drain() {
	n.draining.Store(true)
	_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
	grace := n.cfg.Limits.Drain
	n.log.Info("draining: no new connections, what is in flight may finish", "grace", grace)
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	d := n.server.Drain(ctx)
	n.log.Info("drained", "cut", d.Cut, "took", d.Took.Round(time.Millisecond))
}

// announce tells the operator and systemd when egret is ready: not before it holds its
// own SVID, without which nobody can be known.
func (n *Node) announce(ctx context.Context) {
	for _, e := range n.entrances {
		n.log.Info("listening", "listener", e.cfg.Name, "address", e.listener.Addr().String())
	}
	waiting := time.AfterFunc(2*time.Second, func() {
		n.log.Warn("waiting for the SPIFFE Workload API; every caller is refused until it answers", "hint", "check spiffe.workloadAPI, the agent, and egret's entry")
	})
	defer waiting.Stop()
	id, err := n.Identity(ctx)
	if err != nil {
		if ctx.Err() == nil {
			n.log.Error("no identity", "error", err)
		}
		return
	}
	b := n.reload.current()
	n.log.Info("ready", "id", id.String(), "policy", b.Digest, "after", time.Since(n.start).Round(time.Millisecond))
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReady+"\nSTATUS=policy "+b.Digest)
	n.watchdog(ctx)
}

// watchdog tells systemd that we live, where it asks.
func (n *Node) watchdog(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every <= 0 {
		return
	}
	t := time.NewTicker(every / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
	}
}

// monotonic is what systemd wants with RELOADING=1 (sd_notify(3)).
func monotonic() string {
	return "MONOTONIC_USEC=" + strconv.FormatInt(monotonicMicros(), 10)
}

func (n *Node) signals(ctx context.Context) {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			if n.file != nil {
				if err := n.file.Reopen(); err != nil {
					n.log.Error("the audit file could not be reopened", "error", err)
				}
			}
			_, _ = n.Reload()
		}
	}
}

// serveOps starts the metrics listener and the admin socket.
func (n *Node) serveOps(ctx context.Context, g *errgroup.Group, others *sync.WaitGroup) error {
	stop := func(s interface{ Shutdown(context.Context) error }) {
		<-ctx.Done()
		sctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(sctx)
	}
	if n.cfg.Metrics.Address != "" {
		l, err := net.Listen("tcp", n.cfg.Metrics.Address)
		if err != nil {
			return fmt.Errorf("metrics.address: %w", err)
		}
		s := ops.NewServer(ops.NewMetrics(ops.MetricsOptions{Gatherer: n.reg, Checks: n.checks(), Version: n.opt.Version, Logger: n.log}), n.log)
		g.Go(func() error { return s.Serve(l) })
		others.Go(func() { stop(s) })
		n.log.Info("metrics and health", "address", l.Addr().String())
	}
	if n.admin != nil {
		l, err := n.admin.Listen()
		if err != nil {
			return err
		}
		g.Go(func() error { return n.admin.Serve(l) })
		others.Go(func() { stop(n.admin) })
	}
	return nil
}

// certWarning is how long before the end of the last intermediate /readyz says so.
const certWarning = 7 * 24 * time.Hour

// checks are what /readyz asks.
func (n *Node) checks() []ops.Check {
	return []ops.Check{
		{Name: "draining", Run: func() error {
			if n.draining.Load() {
				return errors.New("egret is shutting down")
			}
			return nil
		}},
		{Name: "identity", Run: func() error { _, err := n.source.SVID(); return err }},
		{Name: "audit", Run: n.journal.Healthy},
		{Name: "policy", Advisory: true, Run: n.reload.health},
		{Name: "ca", Advisory: true, Run: func() error {
			left := time.Until(n.issuer.Expires())
			if _, mine := n.cfg.Certs.Issuer.Ephemeral, n.cfg.Certs.Issuer.Ephemeral != nil; !mine && left < certWarning {
				return fmt.Errorf("an intermediate of the CA ends in %s: run egret ca issue and replace it", left.Round(time.Minute))
			}
			return nil
		}},
	}
}
