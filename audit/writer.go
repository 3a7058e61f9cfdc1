// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io"
	"time"
)

const (
	batchBytes = 64 << 10               // a batch is handed to the sink at this size
	gather     = 5 * time.Millisecond   // after a write: what comes meanwhile is written at once
	syncEvery  = time.Second            // longest time a written record is not synced
	minRetry   = 100 * time.Millisecond // pause after the first failure of the sink
	maxRetry   = 5 * time.Second
)

// writer is the one goroutine that talks to the sink. Only it touches its fields.
type writer struct {
	journal *Journal
	sink    Sink
	node    string

	todo  []*place // taken from the ready list, not yet encoded
	next  int      // first of todo that is not in buf
	buf   []byte   // encoded lines that the sink has not taken
	batch []*place // the places whose lines were put into buf

	dirtySince time.Time // zero: all that was written is synced
	retryAt    time.Time
	retry      time.Duration
	closing    bool
}

func newWriter(j *Journal, s Sink, node string) *writer {
	n := len(j.places)
	return &writer{
		journal: j, sink: s, node: node,
		todo: make([]*place, 0, n), batch: make([]*place, 0, n), buf: make([]byte, 0, batchBytes+4<<10),
	}
}

func (w *writer) run() {
	defer close(w.journal.doneC)
	defer w.end()
	timer := time.NewTimer(syncEvery)
	defer timer.Stop()
	for {
		wrote := w.step(time.Now())
		if w.closing && w.journal.open.Load() == 0 {
			return
		}
		if w.park(wrote) {
			timer.Reset(w.pause(time.Now(), wrote))
			select {
			case <-w.journal.wakeC:
			case <-timer.C:
			case <-w.journal.abortC:
				return
			}
		}
		w.journal.parked.Store(false)
		w.noticeClose()
	}
}

// park says whether the next record is to wake us, and reports whether there is anything to
// wait for. Under load it is not, and records are written many at a time: a record on its
// own is written at once, those that come within gather of it a little later.
func (w *writer) park(wrote bool) bool {
	if w.failing() || wrote && !w.closing {
		return true
	}
	w.journal.parked.Store(true)
	return w.journal.ready.empty() // read after the Store: whoever queues next sees it
}

// noticeClose gives a failing sink one more chance at once when closing begins.
func (w *writer) noticeClose() {
	if !w.closing && w.journal.closed.Load() {
		w.closing, w.retryAt = true, time.Time{}
	}
}

// pause is how long there is nothing to do unless somebody wakes us.
func (w *writer) pause(now time.Time, wrote bool) time.Duration {
	switch {
	case w.failing():
		return w.retryAt.Sub(now)
	case wrote:
		return gather
	case !w.dirtySince.IsZero():
		return w.dirtySince.Add(syncEvery).Sub(now)
	}
	return time.Hour
}

func (w *writer) failing() bool { return w.journal.failure.Load() != nil }

// step writes what is queued and syncs what is due, unless a failure is being waited out.
// It reports whether it wrote anything.
func (w *writer) step(now time.Time) (wrote bool) {
	if w.failing() && now.Before(w.retryAt) {
		return false
	}
	wrote, err := w.drain()
	if err == nil && w.syncDue(now) {
		err = w.sync()
	}
	w.settle(err)
	return wrote
}

func (w *writer) drain() (wrote bool, err error) {
	for w.fill() {
		if err := w.flush(); err != nil {
			return wrote, err
		}
		wrote = true
	}
	return wrote, nil
}

// fill encodes queued records into buf up to the size of a batch and reports whether
// there is anything to write.
func (w *writer) fill() bool {
	for len(w.buf) < batchBytes {
		if w.next == len(w.todo) {
			w.todo, w.next = w.journal.ready.takeAll(w.journal.places, w.todo[:0]), 0
		}
		if w.next == len(w.todo) {
			break
		}
		w.encode(w.todo[w.next])
		w.next++
	}
	return len(w.buf) > 0
}

func (w *writer) encode(p *place) {
	if p.rec.Node == "" {
		p.rec.Node = w.node
	}
	if p.rec.Schema == "" {
		p.rec.Schema = Schema
	}
	w.buf = append(p.rec.AppendJSON(w.buf), '\n')
	w.batch = append(w.batch, p)
}

// flush gives buf to the sink and frees its places. After an error it keeps what the
// sink did not take.
func (w *writer) flush() error {
	n, err := w.sink.Write(w.buf)
	if err == nil && n < len(w.buf) {
		err = io.ErrShortWrite
	}
	if n > 0 && w.dirtySince.IsZero() {
		w.dirtySince = time.Now()
	}
	if err != nil {
		w.buf = append(w.buf[:0], w.buf[max(n, 0):]...)
		return err
	}
	w.journal.metrics.written.Add(float64(len(w.batch)))
	for _, p := range w.batch {
		w.journal.release(p)
	}
	w.batch, w.buf = w.batch[:0], w.buf[:0]
	return nil
}

func (w *writer) syncDue(now time.Time) bool {
	return !w.dirtySince.IsZero() && (w.failing() || now.Sub(w.dirtySince) >= syncEvery)
}

func (w *writer) sync() error {
	if err := w.sink.Sync(); err != nil {
		return err
	}
	w.dirtySince = time.Time{}
	return nil
}

// settle turns the outcome of a step into the state that Begin and Healthy read, and
// logs the changes of that state, not every attempt.
func (w *writer) settle(err error) {
	j := w.journal
	if err == nil {
		w.retry = 0
		if f := j.failure.Swap(nil); f != nil {
			j.log.Info("audit records are written again", "after", time.Since(f.since).Round(time.Millisecond))
		}
		return
	}
	j.metrics.errors.Inc()
	w.retry = min(max(2*w.retry, minRetry), maxRetry)
	w.retryAt = time.Now().Add(w.retry)
	f := j.failure.Load()
	if f == nil {
		f = &failure{since: time.Now()}
		j.log.Error("audit records cannot be written", "err", err, "refusing", j.onFull == Refuse)
	}
	j.failure.Store(&failure{since: f.since, err: err})
}

// end leaves the sink synced and closed.
func (w *writer) end() {
	var err error
	if !w.dirtySince.IsZero() {
		err = w.sync()
	}
	if err = errors.Join(err, w.sink.Close()); err != nil {
		w.journal.endErr = fmt.Errorf("audit: sink did not close: %w", err)
		w.journal.log.Error("audit sink did not close", "err", err)
	}
}
