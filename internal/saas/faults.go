// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"encoding/json"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Outage is how a twin fails on demand. The zero value is a healthy twin.
type Outage int

// Outages.
const (
	Up          Outage = iota
	Unavailable        // answers 503 with Retry-After
	Hangup             // closes the connection (h1) or resets the stream (h2) without an answer
)

// faults are the knobs that every twin has: an outage, and a number of calls that
// are answered 429.
type faults struct {
	mu         sync.Mutex
	outage     Outage
	limited    int
	retryAfter time.Duration
}

// SetOutage makes the twin fail, or work again, from the next request on.
func (f *faults) SetOutage(o Outage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outage = o
}

// LimitNext answers the next n calls with 429 and this Retry-After, in whole seconds.
func (f *faults) LimitNext(n int, retryAfter time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limited, f.retryAfter = n, retryAfter
}

// down carries out the outage and reports whether there is one.
func (f *faults) down(w http.ResponseWriter) bool {
	f.mu.Lock()
	o := f.outage
	f.mu.Unlock()
	switch o {
	case Hangup:
		panic(http.ErrAbortHandler) // the documented way to drop a connection without a log line
	case Unavailable:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return true
	}
	return false
}

// takeLimit reports whether this call is one of those to be limited, and if so sets
// Retry-After.
func (f *faults) takeLimit(w http.ResponseWriter) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.limited <= 0 {
		return false
	}
	f.limited--
	w.Header().Set("Retry-After", strconv.Itoa(int(f.retryAfter/time.Second)))
	return true
}

// writeJSON writes one JSON answer; v is always something that can be marshalled.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that has gone is not the twin's concern
}
