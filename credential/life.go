// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"math/rand/v2"
	"time"
)

// The refresh rule (MUST C4, C5).
const (
	maxLifetime  = 30 * 24 * time.Hour // longer is absurd: the configured TTL counts
	defaultTTL   = time.Hour           // where neither issuer nor configuration tells one
	expiryMargin = 5 * time.Second     // never served within this of its end
	hardMargin   = 30 * time.Second    // from here (or L/10) on callers wait for the flight
	hardWait     = time.Second         // but no longer than this
)

// phase is where in its life a value is.
type phase int

const (
	phaseNone    phase = iota
	phaseFresh         // serve
	phaseSoft          // serve, refresh behind
	phaseHard          // wait a little for the refresh, then serve
	phaseExpired       // never serve
)

// life holds the marks of one value, as time since its request was sent.
type life struct {
	sent             time.Time // with monotonic reading
	soft, hard, last time.Duration
	length           time.Duration
}

// newLife applies the rule to what the issuer told. told is false where the lifetime is
// the configured one.
func newLife(sent time.Time, lifetime, ttl time.Duration) (l life, told bool) {
	told = lifetime > 0 && lifetime <= maxLifetime
	if !told {
		lifetime = ttl
	}
	if lifetime <= 0 || lifetime > maxLifetime {
		lifetime = defaultTTL
	}
	return life{
		sent:   sent,
		soft:   time.Duration(float64(lifetime) * (0.70 + 0.10*rand.Float64())),
		hard:   lifetime - min(hardMargin, lifetime/10),
		last:   lifetime - expiryMargin,
		length: lifetime,
	}, told
}

// elapsed is the age of the value. The monotonic clock does not see the time that a
// laptop sleeps, and the wall clock may be set back: the greater of both counts.
func (l *life) elapsed(now time.Time) time.Duration {
	return max(now.Sub(l.sent), time.Duration(now.UnixNano()-l.sent.UnixNano()))
}

func (l *life) phase(now time.Time) phase {
	switch age := l.elapsed(now); {
	case age >= l.last:
		return phaseExpired
	case age >= l.hard:
		return phaseHard
	case age >= l.soft:
		return phaseSoft
	}
	return phaseFresh
}

// remaining is the time for which the value may still be served.
func (l *life) remaining(now time.Time) time.Duration { return l.last - l.elapsed(now) }
