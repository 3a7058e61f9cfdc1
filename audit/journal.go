// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// OnFull is what happens to a request for whose record there is no place.
type OnFull int

// The zero value refuses (MUST A1).
const (
	Refuse OnFull = iota // Begin fails, the request is not sent
	Drop                 // the request goes on, its record is lost and counted
)

// maxQueue bounds the memory for places: about 600 bytes each.
const maxQueue = 1 << 20

// lossShown is how long Healthy goes on reporting a loss.
const lossShown = 5 * time.Minute

// ErrClosed: Begin after Close.
var ErrClosed = errors.New("audit log is closed")

// Options are what a Journal is made of.
type Options struct {
	Writer     Sink                  // where records go; the Journal closes it
	Queue      int                   // places: the bound on records reserved or not yet written
	OnFull     OnFull                // Refuse or Drop
	Registerer prometheus.Registerer // nil: metrics are counted but not shown
	Logger     *slog.Logger          // nil: silent
	Node       string                // put into records that name no node
	// PanicOnMisuse makes a second Write to one Slot panic. For tests.
	PanicOnMisuse bool
}

// Journal is the Log that queues records in memory and has one goroutine write them.
// Begin and Write take no lock and allocate nothing. Records reach the sink in the
// order of their Write, at least once: after a failed write the same lines are given to
// the sink again. While the sink fails the records wait in their places; with Refuse
// nothing more is begun until it works again, so that none is lost unless the process
// ends.
type Journal struct {
	places  []place
	free    list
	ready   list
	dropped Slot
	onFull  OnFull
	strict  bool

	open     atomic.Int64 // places reserved, queued or being written
	closed   atomic.Bool
	failure  atomic.Pointer[failure]
	lastLoss atomic.Int64 // Unix nanoseconds; 0: none

	parked atomic.Bool // the writer waits for a record: whoever queues one wakes it
	wakeC  chan struct{}
	abortC chan struct{} // closed when Close gives up
	doneC  chan struct{} // closed when the writer has ended
	abort  atomic.Bool
	endErr error // why the sink did not end well; read after doneC

	metrics *metrics
	log     *slog.Logger
}

// failure says since when and why the sink does not take records.
type failure struct {
	since time.Time
	err   error
}

// NewLog makes a Journal and starts its writer, which ends with Close.
func NewLog(o Options) (*Journal, error) {
	if o.Writer == nil {
		return nil, errors.New("audit: no sink to write records to")
	}
	if o.Queue < 1 || o.Queue > maxQueue {
		return nil, fmt.Errorf("audit: queue is %d: it must be between 1 and %d places", o.Queue, maxQueue)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	j := &Journal{
		places: make([]place, o.Queue), onFull: o.OnFull, strict: o.PanicOnMisuse, log: o.Logger,
		wakeC: make(chan struct{}, 1), abortC: make(chan struct{}), doneC: make(chan struct{}),
	}
	j.dropped = &droppedSlot{j}
	for i := range j.places {
		p := &j.places[len(j.places)-1-i]
		p.journal, p.index = j, uint32(len(j.places)-1-i)
		j.free.push(p)
	}
	var err error
	if j.metrics, err = newMetrics(j, o.Registerer); err != nil {
		return nil, fmt.Errorf("audit: metrics: %w", err)
	}
	go newWriter(j, o.Writer, o.Node).run()
	return j, nil
}

// Begin implements Log. With Refuse it fails with ErrFull where no place is free or the
// sink does not take records, and with ErrClosed after Close. With Drop it never fails.
func (j *Journal) Begin() (Slot, error) {
	if j.onFull == Refuse && j.failure.Load() != nil {
		return j.full(ErrFull)
	}
	p := j.free.pop(j.places)
	if p == nil {
		return j.full(ErrFull)
	}
	j.open.Add(1)
	// Read after the Add: either the writer sees our place and waits for it, or we see
	// that it may already have ended.
	if j.closed.Load() {
		j.giveBack(p)
		return j.full(ErrClosed)
	}
	p.state.Store(stateReserved)
	return p, nil
}

func (j *Journal) full(err error) (Slot, error) {
	if j.onFull == Drop {
		return j.dropped, nil
	}
	j.metrics.refused.Inc()
	return nil, err
}

func (j *Journal) release(p *place) {
	p.rec = Record{} // does not keep the request's strings alive
	p.state.Store(stateFree)
	j.free.push(p)
	j.open.Add(-1)
}

// giveBack frees a place that holds no record. A closing journal waits for the last one.
func (j *Journal) giveBack(p *place) {
	j.release(p)
	if j.closed.Load() {
		j.wake()
	}
}

// queued is called when a record has been queued. A writer that gathers records is left
// alone, unless they could run out of places meanwhile.
func (j *Journal) queued() {
	if j.parked.Load() || 2*j.open.Load() >= int64(len(j.places)) {
		j.wake()
	}
}

// wake never waits: one signal is enough.
func (j *Journal) wake() {
	select {
	case j.wakeC <- struct{}{}:
	default:
	}
}

func (j *Journal) lose(n int64) {
	j.metrics.lost.Add(float64(n))
	j.lastLoss.Store(time.Now().UnixNano())
}

// misuse is called for a Write to a Slot that is not reserved. It cannot tell once the
// place has been given to another request.
func (j *Journal) misuse() {
	if j.strict {
		panic("audit: Slot.Write called twice")
	}
	j.metrics.misused.Inc()
}

// droppedSlot stands for a place that there was not.
type droppedSlot struct{ journal *Journal }

func (d *droppedSlot) Write(Record) { d.journal.lose(1) }
func (d *droppedSlot) Cancel()      {}

// Healthy tells, in words for /readyz, why records are not being kept: the sink fails,
// the queue is full, or records were lost in the last five minutes. Nil: all is well.
func (j *Journal) Healthy() error {
	if f := j.failure.Load(); f != nil {
		return fmt.Errorf("records cannot be written since %s: %w", f.since.UTC().Format(time.RFC3339), f.err)
	}
	if n := len(j.places); j.open.Load() >= int64(n) {
		return fmt.Errorf("%w: all %d places are taken", ErrFull, n)
	}
	if ns := j.lastLoss.Load(); ns != 0 && time.Since(time.Unix(0, ns)) < lossShown {
		return fmt.Errorf("records were lost, last at %s", time.Unix(0, ns).UTC().Format(time.RFC3339))
	}
	return nil
}

// Close refuses new places, waits until every reserved one has been written, syncs and
// closes the sink, whose last error it returns. When ctx ends first it gives up: what is then unwritten is counted as
// lost and told in the error. The sink is closed as soon as it returns from the call
// that it may be blocked in. Later calls wait for the first.
func (j *Journal) Close(ctx context.Context) error {
	j.closed.Store(true)
	j.wake()
	select {
	case <-j.doneC:
		return j.endErr
	case <-ctx.Done():
	}
	if !j.abort.CompareAndSwap(false, true) {
		return context.Cause(ctx)
	}
	close(j.abortC)
	n := j.open.Load()
	j.lose(n)
	return fmt.Errorf("audit: %d records were not written: %w", n, context.Cause(ctx))
}
