// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"runtime/debug"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
)

// Run serves until ctx ends, then drains and takes everything down. It returns why it
// could not serve, or nil.
func (n *Node) Run(ctx context.Context) error {
	defer n.close()
	g, ctx := errgroup.WithContext(ctx)
	side, stopSide := context.WithCancel(context.WithoutCancel(ctx)) // what outlives the drain
	defer stopSide()
	var others sync.WaitGroup
	for _, e := range n.entrances {
		g.Go(func() error { return e.serve(ctx, n.server) })
	}
	n.serveOps(side, g, &others)
	others.Go(func() { n.reload.watch(side) })
	others.Go(func() { n.watchCA(side) })
	others.Go(func() { n.hangups(side) })
	others.Go(func() { n.announce(side) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-n.fatal:
			return err
		}
	})
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
	n.notify(daemon.SdNotifyStopping)
	grace := n.cfg.Limits.Drain
	n.log.Info("draining: no new connections, what is in flight may finish", "grace", grace.String())
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	d := n.server.Drain(ctx)
	n.log.Info("drained", "cut", d.Cut, "took", d.Took.Round(time.Millisecond).String())
}

// How long the start is silent about a Workload API that does not answer, and how often
// it says so.
const (
	waitSilent = time.Second
	waitRemind = 30 * time.Second
)

// announce tells the operator and systemd when egret is ready: not before it holds its
// own SVID, without which nobody can be known.
func (n *Node) announce(ctx context.Context) {
	for _, e := range n.entrances {
		n.log.Info("listening", "listener", e.cfg.Name, "address", e.listener.Addr().String())
	}
	for patience := waitSilent; ; patience = waitRemind {
		wait, cancel := context.WithTimeout(ctx, patience)
		id, err := n.Identity(wait)
		cancel()
		switch {
		case err == nil:
			n.isReady(id)
			debug.FreeOSMemory() // reading the policy took several times what is kept of it
			n.watchdog(ctx)
			return
		case ctx.Err() != nil:
			return
		}
		n.log.Warn("not ready: every caller is refused until egret has its identity", "error", err)
		n.notify("STATUS=waiting for the SPIFFE Workload API")
	}
}

func (n *Node) isReady(id spiffeid.ID) {
	n.log.Info("ready", "id", id.String(), "policy", n.reload.now().bundle.Digest, "after", time.Since(n.start).Round(time.Millisecond).String())
	n.telling.Lock()
	defer n.telling.Unlock()
	n.notify(daemon.SdNotifyReady, "STATUS="+n.status())
	n.told = true
}

// Running is a Node that serves beside something else. Make it with Start, and Stop it.
type Running struct {
	*Node
	cancel context.CancelFunc
	done   chan struct{}
	err    error // after done
}

// Start runs the node until Stop; a context's end does not end it.
func (n *Node) Start(ctx context.Context) *Running {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	r := &Running{Node: n, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = n.Run(ctx)
	}()
	return r
}

// Stop drains, takes everything down and returns what Run did. It may be called again.
func (r *Running) Stop() error {
	r.cancel()
	<-r.done
	return r.err
}

// Done is closed when the node serves no more.
func (r *Running) Done() <-chan struct{} { return r.done }

// Ready waits until the node holds its identity and so serves. The error is that of Run
// where it has ended before.
func (r *Running) Ready(ctx context.Context) (spiffeid.ID, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-r.done:
			cancel()
		case <-ctx.Done():
		}
	}()
	id, err := r.Identity(ctx)
	select {
	case <-r.done:
		if r.err != nil {
			return id, r.err
		}
	default:
	}
	return id, err
}
