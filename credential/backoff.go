// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"math/rand/v2"
	"time"
)

// Bounds of the negative cache (MUST C8).
const (
	retryCap      = 5 * time.Minute  // of what an issuer's Retry-After may ask
	foregroundCap = 5 * time.Second  // nobody can be served: try again soon
	backgroundCap = 60 * time.Second // the current value is still served
	notMintedCap  = 30 * time.Second
	refusedMin    = 30 * time.Second // and up to twice that: a person must act
)

// failure is what remembers that an issuer did not give a value.
type failure struct {
	count int
	until time.Time
	err   *Error
}

// active reports whether the issuer must not be asked at now.
func (f *failure) active(now time.Time) bool { return f.err != nil && now.Before(f.until) }

// add records err. spare is a tenth of the life of the value that is still served, zero
// where there is none.
func (f *failure) add(now time.Time, err *Error, spare time.Duration) {
	f.count++
	f.err = err
	f.until = now.Add(max(f.wait(spare), min(err.RetryAfter, retryCap)))
}

func (f *failure) wait(spare time.Duration) time.Duration {
	switch {
	case f.err.Kind == Refused:
		return refusedMin + rand.N(refusedMin)
	case spare > 0:
		return exponential(time.Second, f.count, min(backgroundCap, spare))
	case f.err.Kind == NotMinted:
		return exponential(2*time.Second, f.count, notMintedCap)
	}
	return exponential(2*time.Second, f.count, foregroundCap)
}

// exponential is base·2^(n-1), plus or minus half of it, and at most limit.
func exponential(base time.Duration, n int, limit time.Duration) time.Duration {
	d := max(min(base<<min(max(n-1, 0), 12), limit*2/3), time.Millisecond)
	return d/2 + rand.N(d)
}

// Rate bounds how often one Spec's issuer is asked, over all its keys (MUST C13). The
// zero Rate is 600 a minute with bursts of 50.
type Rate struct {
	PerMinute int
	Burst     int
}

const (
	defaultPerMinute = 600
	defaultBurst     = 50
)

// limiter is a token bucket kept as the time at which it is full again (GCRA). The
// caller holds a lock.
type limiter struct {
	every time.Duration
	burst time.Duration
	full  time.Time
}

func newLimiter(r Rate) limiter {
	if r.PerMinute <= 0 {
		r.PerMinute = defaultPerMinute
	}
	if r.Burst <= 0 {
		r.Burst = defaultBurst
	}
	every := time.Minute / time.Duration(r.PerMinute)
	return limiter{every: every, burst: every * time.Duration(r.Burst)}
}

// reserve takes one turn and tells how long to wait for it. A wait longer than limit is
// told without taking the turn.
func (l *limiter) reserve(now time.Time, limit time.Duration) time.Duration {
	full := l.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(l.every)
	wait := full.Sub(now) - l.burst
	if wait <= limit {
		l.full = full
	}
	return max(wait, 0)
}
