// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"crypto/tls"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/bench/internal/hist"
	"github.com/egret-proxy/egret/bench/internal/host"
)

// crew is the workers of one load; each has one request in flight at a time.
type crew struct {
	d         *door
	callers   []caller // one for each connection; none where every request has its own
	workers   []*worker
	done      sync.WaitGroup
	measuring atomic.Bool
	stop      atomic.Bool
}

// worker keeps its own counters, so that counting costs no shared cache line.
type worker struct {
	caller   caller                 // nil: a new one for every request
	sessions tls.ClientSessionCache // nil: no TLS session is resumed
	buf      []byte
	requests atomic.Int64
	bytes    atomic.Int64
	errors   int64
	err      error
	latency  hist.Histogram
	_        [64]byte
}

func newWorker() *worker { return &worker{buf: make([]byte, 64<<10)} }

func newCrew(d *door) (*crew, error) {
	cr := &crew{d: d}
	for range d.spec.Conns {
		var c caller
		if !d.spec.Fresh {
			var err error
			if c, err = d.open(context.Background(), nil); err != nil {
				cr.close()
				return nil, err
			}
			cr.callers = append(cr.callers, c)
		}
		for range d.spec.Streams {
			w := newWorker()
			w.caller = c
			if d.spec.Resume {
				w.sessions = tls.NewLRUClientSessionCache(1)
			}
			cr.workers = append(cr.workers, w)
		}
	}
	return cr, nil
}

func (cr *crew) close() {
	for _, c := range cr.callers {
		c.close()
	}
}

// prime opens every connection with one request, so that a hundred streams that start
// together find theirs and do not dial a hundred times. What goes wrong here goes wrong
// again when it is counted.
func (cr *crew) prime(ctx context.Context) {
	var open sync.WaitGroup
	for _, c := range cr.callers {
		open.Go(func() { _ = c.call(ctx, newWorker()) })
	}
	open.Wait()
}

func (cr *crew) start(ctx context.Context) {
	if cr.d.spec.Rate > 0 {
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
			at := start.Add(time.Duration(float64(k) * float64(time.Second) / cr.d.spec.Rate))
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
	err := cr.call(ctx, w)
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

// call makes one request, on a connection of its own where the worker has none.
func (cr *crew) call(ctx context.Context, w *worker) error {
	c := w.caller
	if c == nil {
		var err error
		if c, err = cr.d.open(ctx, w.sessions); err != nil {
			return err
		}
		defer c.close()
	}
	return c.call(ctx, w)
}

func (cr *crew) counts(measuring bool) (requests, bytes int64) {
	cr.measuring.Store(measuring)
	for _, w := range cr.workers {
		requests += w.requests.Load()
		bytes += w.bytes.Load()
	}
	return requests, bytes
}

// sum adds to a result what all workers saw; only after they are done.
func (cr *crew) sum(r *Result) {
	var all hist.Histogram
	for _, w := range cr.workers {
		all.Add(&w.latency)
		if r.Errors += w.errors; r.Error == "" && w.err != nil {
			r.Error = w.err.Error()
		}
	}
	r.Latency, r.Dials, r.Resumed = all.Summary(), cr.d.dials.Load(), cr.d.resumed.Load()
}
