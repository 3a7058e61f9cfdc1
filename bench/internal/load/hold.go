// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package load

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
)

const (
	openAtATime = 64                     // of connections that will be held
	early       = 16                     // connections that are made before memory is read: what the first request of all costs is not theirs
	settleStep  = 500 * time.Millisecond // between readings of memory, by default
	settled     = 5                      // readings in a row that hardly differ
	settleMost  = 20 * time.Second
)

// hold opens the connections, each with one request, and reads memory before and after
// and the CPU time of a window in which nothing is sent. That all are still open then is
// shown by a second request on some of them, which would dial anew.
//
// Memory has settled when it has not changed by a hundredth for some readings. No
// collector is forced to run: the figure is what an operator sees, garbage that the
// runtime has not given back included.
func hold(ctx context.Context, d *door) (Result, error) {
	h := &holder{d: d}
	defer h.close()
	if err := h.add(ctx, min(early, d.spec.Conns/2)); err != nil {
		return Result{}, err
	}
	memory := map[string]Memory{}
	if err := h.read(ctx, memory, func(m *Memory, n int64, _ time.Duration) { m.Before = n }); err != nil {
		return Result{}, err
	}
	held := d.spec.Conns - len(h.callers)
	if err := h.add(ctx, held); err != nil {
		return Result{}, err
	}
	if err := h.read(ctx, memory, func(m *Memory, n int64, took time.Duration) { m.After, m.Settle = n, took }); err != nil {
		return Result{}, err
	}
	res, err := measure(ctx, d.spec, func(bool) (int64, int64) { return 0, 0 })
	if err != nil {
		return res, err
	}
	again := h.again(ctx)
	res.Held, res.Memory, res.Dials = int64(held), memory, d.dials.Load()
	if res.Dials != int64(d.spec.Conns) && again == nil {
		again = fmt.Errorf("%d connections were made to hold %d", res.Dials, d.spec.Conns)
	}
	return res, again
}

// holder keeps the connections.
type holder struct {
	d       *door
	callers []caller
}

func (h *holder) close() {
	for _, c := range h.callers {
		c.close()
	}
}

// add makes n more connections.
func (h *holder) add(ctx context.Context, n int) error {
	first := len(h.callers)
	for range n {
		c, err := h.d.open(ctx, nil)
		if err != nil {
			return err
		}
		h.callers = append(h.callers, c)
	}
	return each(h.callers[first:], func(c caller, w *worker) error { return c.call(ctx, w) })
}

// again sends a second request on every tenth connection.
func (h *holder) again(ctx context.Context) error {
	var some []caller
	for i := 0; i < len(h.callers); i += 10 {
		some = append(some, h.callers[i])
	}
	return each(some, func(c caller, w *worker) error { return c.call(ctx, w) })
}

// each calls f for all, some at a time, and returns the first error.
func each(all []caller, f func(caller, *worker) error) error {
	var next atomic.Int64
	var first error
	var once sync.Once
	var done sync.WaitGroup
	for range openAtATime {
		done.Go(func() {
			w := newWorker()
			for i := next.Add(1) - 1; i < int64(len(all)); i = next.Add(1) - 1 {
				if err := f(all[i], w); err != nil {
					once.Do(func() { first = fmt.Errorf("connection %d of %d: %w", i+1, len(all), err) })
					return
				}
			}
		})
	}
	done.Wait()
	return first
}

// read waits until the memory of all processes has settled.
func (h *holder) read(ctx context.Context, into map[string]Memory, set func(*Memory, int64, time.Duration)) error {
	began, same, step := time.Now(), 0, cmp.Or(h.d.spec.Settle, settleStep)
	last := map[string]int64{}
	for same < settled && time.Since(began) < settleMost {
		if err := sleep(ctx, step); err != nil {
			return err
		}
		same++
		for name, pid := range h.d.spec.PIDs {
			n, err := host.TreeMemory(pid)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if near := last[name] / 100; name != "load" && (n > last[name]+near || n < last[name]-near) {
				same = 0
			}
			last[name] = n
		}
	}
	for name, n := range last {
		m := into[name]
		set(&m, n, time.Since(began))
		into[name] = m
	}
	return nil
}
