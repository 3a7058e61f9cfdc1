// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/report"
)

// worker makes one request each time that it is called; it is called by one goroutine
// at a time.
type worker func(context.Context) error

// cell is one place of a curve.
type cell struct {
	curve   *report.Curve
	x       float64
	pid     int
	workers []worker
	warm    worker // makes upstream connections that were idle for too long; nil: there are none
}

// patience is how much longer than asked for a window may last until a request is
// answered.
const patience = 20 * time.Second

// sweep measures all cells in each round, one right after the other. Rounds start with
// another cell each, so that none always comes first.
func (o Options) sweep(ctx context.Context, cells []cell) error {
	for round := range o.Rounds {
		for i := range cells {
			c := cells[(i+round*len(cells)/o.Rounds)%len(cells)]
			spent, err := o.window(ctx, c)
			if err != nil {
				return fmt.Errorf("%s, %s, %g: %w", c.curve.Panel, c.curve.Name, c.x, err)
			}
			c.curve.Points = append(c.curve.Points, report.Point{X: c.x, Round: round, Value: spent})
			o.say("%s, %s: round %d of %d, %g: %v", c.curve.Panel, c.curve.Name, round+1, o.Rounds, c.x, time.Duration(spent))
		}
	}
	return nil
}

// window keeps the workers busy and returns the CPU time of the process for each
// request, in nanoseconds.
func (o Options) window(ctx context.Context, c cell) (float64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if c.warm != nil {
		if err := c.warm(ctx); err != nil {
			return 0, err
		}
	}
	var stop atomic.Bool
	var done atomic.Int64
	var all sync.WaitGroup
	for _, work := range c.workers {
		all.Go(func() {
			for !stop.Load() && ctx.Err() == nil {
				if err := work(ctx); err != nil {
					cancel(err)
					return
				}
				done.Add(1)
			}
		})
	}
	spent, err := o.clock(ctx, c.pid, &done)
	stop.Store(true)
	all.Wait()
	return spent, err
}

// clock reads the CPU clock and the count of requests at both ends of a window.
func (o Options) clock(ctx context.Context, pid int, done *atomic.Int64) (float64, error) {
	if err := pause(ctx, o.Window/8); err != nil {
		return 0, err
	}
	before, err := host.ProcessCPU(pid)
	if err != nil {
		return 0, err
	}
	first := done.Load()
	if err := pause(ctx, o.Window); err != nil {
		return 0, err
	}
	for end := time.Now().Add(patience); done.Load() == first && time.Now().Before(end); {
		if err := pause(ctx, o.Window); err != nil { // the machine is busy with something else
			return 0, err
		}
	}
	after, err := host.ProcessCPU(pid)
	if err != nil {
		return 0, err
	}
	n := done.Load() - first
	if n == 0 {
		return 0, fmt.Errorf("no request was answered in %s", patience)
	}
	return float64(after-before) / float64(n), nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// pass makes one request on each connection.
func pass(conns []*conn) worker {
	return func(ctx context.Context) error {
		return parallel(ctx, len(conns), func(_ context.Context, i int) error { return conns[i].get() })
	}
}

// cycle are workers that share the connections; each goes round its own part.
func cycle(conns []*conn, workers int) []worker {
	workers = min(workers, len(conns))
	out := make([]worker, 0, workers)
	for i := range workers {
		next := i
		out = append(out, func(context.Context) error {
			c := conns[next]
			if next += workers; next >= len(conns) {
				next = i
			}
			return c.get()
		})
	}
	return out
}
