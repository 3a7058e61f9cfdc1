// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"sync"
	"time"
)

// ending is the end of an answer whose last piece has been written and not been flushed: with
// HTTP/2 each flush is a frame, a TLS record, a system call and a goroutine of net/http's.
type ending struct {
	waits bool // the last piece may wait: close will be called

	mu    sync.Mutex
	over  bool // the handler goes on to end the stream, and nobody else may flush
	timer *time.Timer
}

// endWait is how long the last piece waits: an upstream may end its stream later.
const endWait = time.Millisecond

// flushSoon flushes unless the answer ends before that.
func (e *ending) flushSoon(w *responseWriter) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		return
	}
	e.timer = time.AfterFunc(endWait, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		if !e.over {
			w.Flush()
		}
	})
}

// close waits for a flush that is under way; there is none afterwards.
func (e *ending) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	if e.timer != nil {
		e.timer.Stop()
	}
}
