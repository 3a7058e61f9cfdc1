// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/bench/internal/hist"
	"github.com/egret-proxy/egret/bench/internal/host"
)

// crew is the workers of one load; each has one request in flight at a time.
type crew struct {
	c         *clients
	workers   []*worker
	done      sync.WaitGroup
	measuring atomic.Bool
	stop      atomic.Bool
}

// worker keeps its own counters, so that counting costs no shared cache line.
type worker struct {
	transport *http.Transport // nil: a new one for every request
	buf       []byte
	requests  atomic.Int64
	bytes     atomic.Int64
	errors    int64
	err       error
	latency   hist.Histogram
	_         [64]byte
}

func newCrew(c *clients) *crew {
	cr := &crew{c: c}
	for i := range c.spec.Conns {
		for range c.spec.Streams {
			w := &worker{buf: make([]byte, 64<<10)}
			if !c.spec.Fresh {
				w.transport = c.each[i]
			}
			cr.workers = append(cr.workers, w)
		}
	}
	return cr
}

// prime opens every connection with one request, so that a hundred streams that start
// together find theirs and do not dial a hundred times. What goes wrong here goes wrong
// again when it is counted.
func (cr *crew) prime(ctx context.Context) {
	var open sync.WaitGroup
	for _, t := range cr.c.each {
		open.Go(func() { _ = cr.c.get(ctx, t, &worker{buf: make([]byte, 64<<10)}) })
	}
	open.Wait()
}

func (cr *crew) start(ctx context.Context) {
	if cr.c.spec.Rate > 0 {
		cr.open(ctx)
		return
	}
	for _, w := range cr.workers {
		cr.done.Go(func() {
			for !cr.stop.Load() && ctx.Err() == nil {
				cr.once(ctx, w, time.Now())
			}
		})
	}
}

// open sends at a fixed rate. A latency counts from the moment at which the request was
// due, not from when a worker was free to send it, so that a stall of the server is
// charged to every request that it would have met (no co-ordinated omission).
func (cr *crew) open(ctx context.Context) {
	due := make(chan time.Time, 1<<16)
	cr.done.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(due)
		start := time.Now()
		for k := 0; !cr.stop.Load() && ctx.Err() == nil; k++ {
			at := start.Add(time.Duration(float64(k) * float64(time.Second) / cr.c.spec.Rate))
			host.SleepUntil(at)
			select {
			case due <- at:
			case <-ctx.Done():
				return
			}
		}
	})
	for _, w := range cr.workers {
		cr.done.Go(func() {
			for at := range due {
				if !cr.stop.Load() {
					cr.once(ctx, w, at)
				}
			}
		})
	}
}

// pauseOnError keeps a refused load from spinning.
const pauseOnError = 5 * time.Millisecond

// once makes one request; its latency counts from due.
func (cr *crew) once(ctx context.Context, w *worker, due time.Time) {
	t := w.transport
	if t == nil {
		t = cr.c.transport()
		defer t.CloseIdleConnections()
	}
	err := cr.c.get(ctx, t, w)
	switch {
	case err == nil:
		w.requests.Add(1)
		if cr.measuring.Load() {
			w.latency.Record(time.Since(due))
		}
	case cr.stop.Load() || ctx.Err() != nil: // cut at the end of the window
	default:
		w.errors++
		if w.err == nil {
			w.err = err
		}
		_ = sleep(ctx, pauseOnError)
	}
}

func (cr *crew) counts() (requests, bytes int64) {
	for _, w := range cr.workers {
		requests += w.requests.Load()
		bytes += w.bytes.Load()
	}
	return requests, bytes
}

// latency sums up all workers; only after they are done.
func (cr *crew) latency() hist.Summary {
	var all hist.Histogram
	for _, w := range cr.workers {
		all.Add(&w.latency)
	}
	return all.Summary()
}

func (cr *crew) errors() (n int64) {
	for _, w := range cr.workers {
		n += w.errors
	}
	return n
}

func (cr *crew) firstError() string {
	for _, w := range cr.workers {
		if w.err != nil {
			return w.err.Error()
		}
	}
	return ""
}
