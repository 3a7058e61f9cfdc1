// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const (
	flightTime = 10 * time.Second // from start to answer
	turnWait   = 5 * time.Second  // of it, at most this for a turn under the mint rate
	rereads    = 3                // fetches in one flight when the value changes under it
)

// flight is one question to an issuer. value and err are written before done is closed.
// It does not belong to an entry: it goes on when its entry is evicted.
type flight struct {
	key      Key
	done     chan struct{}
	value    *Live
	err      *Error
	unwanted bool // what it brings is given up at once; guarded by Cache.mu
}

// await reports whether the flight landed within limit and ctx.
func (f *flight) await(ctx context.Context, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-f.done:
		return true
	case <-ctx.Done():
	case <-t.C:
	}
	return false
}

func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// deliver is the outcome of a flight that has landed, for one that waited.
func (f *flight) deliver() (*Live, error) {
	if f.err != nil {
		return nil, f.err
	}
	if f.value.life.phase(time.Now()) == phaseExpired {
		return nil, &Error{Kind: Expired, Err: fmt.Errorf("credential %q ended while it was fetched", f.key.Provider)}
	}
	return f.value, nil
}

// fly joins or starts the flight for e, unless a failure is still being backed off. The
// caller holds c.mu.
func (c *Cache) fly(e *entry, sp *spec, s Subject, now time.Time) (*flight, *Error) {
	if f := c.flights[e.key]; f != nil {
		return f, nil
	}
	if e.failure.active(now) {
		return nil, e.backedOff(now)
	}
	f := &flight{key: e.key, done: make(chan struct{})}
	wait := sp.limiter.reserve(now, turnWait)
	c.flights[e.key] = f
	c.metrics.flights.Inc()
	c.work.Go(func() { c.run(f, sp, s, wait) })
	return f, nil
}

// backedOff is the answer while the issuer is not asked.
func (e *entry) backedOff(now time.Time) *Error {
	kind, left := Backoff, e.failure.until.Sub(now)
	if e.had {
		kind = Expired
	}
	return &Error{Kind: kind, RetryAfter: left, Err: fmt.Errorf("not asked again for %s: %w", left.Round(time.Millisecond), e.failure.err)}
}

// run carries out a flight and always lands it, whatever the provider does.
func (c *Cache) run(f *flight, sp *spec, s Subject, wait time.Duration) {
	f.err = &Error{Kind: Unreachable, Err: errors.New("the provider ended its goroutine")}
	defer func() {
		if !f.landed() {
			c.land(f, sp, anyEpoch)
		}
	}()
	ctx, cancel := context.WithTimeout(c.base, flightTime)
	defer cancel()
	if wait > turnWait {
		f.err = &Error{Kind: Backoff, RetryAfter: wait, Err: fmt.Errorf("mint rate of credential %q is used up", sp.Name)}
		return
	}
	if !sleep(ctx, wait) {
		f.err = &Error{Kind: Unreachable, Err: context.Cause(ctx)}
		return
	}
	for range rereads {
		epoch := c.epoch(sp)
		f.value, f.err = c.fetch(ctx, f.key, sp, s)
		if c.land(f, sp, epoch) {
			return
		}
		c.discard(f.key, f.value)
		f.value = nil
	}
	f.err = &Error{Kind: NotMinted, Err: errors.New("the value changes faster than it can be read")}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Cache) epoch(sp *spec) int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return sp.epoch
}

// fetch asks the provider once and makes its answer a Live. What is got for all, or with
// egret's own identity, is never got with that of the caller who came first (MUST C3).
func (c *Cache) fetch(ctx context.Context, k Key, sp *spec, s Subject) (v *Live, failed *Error) {
	sent := time.Now()
	outcome := &Error{Kind: NotMinted, Err: errors.New("the provider panicked or ended its goroutine")}
	defer func() {
		c.metrics.fetched(sp.Name, outcome, time.Since(sent))
		if p := recover(); p != nil {
			// The panic's value may quote a secret: only its type is logged.
			c.log.Error("credential provider panicked", "credential", sp.Name, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			v, failed = nil, outcome
		}
	}()
	if sp.AsSelf || sp.Shared {
		s = c.opts.Self()
	}
	tok, err := sp.Provider.Fetch(ctx, k, s)
	if err != nil {
		outcome = asError(err)
		return nil, outcome
	}
	if v, outcome = mint(tok, sp, sent); outcome != nil && tok.Revoke != nil {
		c.discard(k, &Live{ending: &ending{call: tok.Revoke}})
	}
	return v, outcome
}

// asError makes any error of a provider an *Error. A bare one counts as Unreachable.
func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	return &Error{Kind: Unreachable, Err: err}
}

func mint(tok Token, sp *spec, sent time.Time) (*Live, *Error) {
	l, told := newLife(sent, tok.Lifetime, sp.TTL)
	if l.last <= 0 {
		return nil, &Error{Kind: NotMinted, Err: fmt.Errorf("lifetime %s is not longer than the margin of %s", l.length, expiryMargin)}
	}
	var expires time.Time
	if told {
		expires = sent.Add(l.length)
	}
	v, err := New(tok, sp.Inject, expires)
	if err != nil {
		return nil, &Error{Kind: NotMinted, Err: err}
	}
	v.life, v.bare = l, sp.Bare && tok.Certificate != nil
	return v, nil
}

// anyEpoch lands whatever has changed meanwhile.
const anyEpoch = -1

// land hands the outcome to the entry of the same Key, if there still is one, and to
// all that wait. It does nothing and returns false if the source of the value has
// changed since epoch.
func (c *Cache) land(f *flight, sp *spec, epoch int) bool {
	c.mu.Lock()
	if epoch != anyEpoch && epoch != sp.epoch {
		c.mu.Unlock()
		return false
	}
	delete(c.flights, f.key)
	late := f.giveUp()
	if e := c.store.entries[f.key]; e != nil && !sp.retired {
		e.settle(f, time.Now())
	} else if f.value != nil { // only those that wait get it
		c.evicted(given{f.key, f.value})
	}
	c.mu.Unlock()
	c.metrics.flights.Dec()
	if f.err != nil && c.base.Err() == nil {
		c.log.Warn("credential not fetched", "credential", f.key.Provider, "workload", f.key.ID.String(),
			"reason", f.err.Kind.String(), "error", f.err)
	}
	close(f.done)
	c.endAll(late)
	return true
}

// giveUp takes from a flight the value that was revoked while it was fetched. The
// caller holds c.mu.
func (f *flight) giveUp() []given {
	if !f.unwanted || f.value == nil {
		return nil
	}
	late := []given{{f.key, f.value}}
	f.value, f.err = nil, &Error{Kind: Backoff, Err: errRevoked}
	return late
}

var errRevoked = errors.New("credentials of this workload were revoked while this one was fetched")

// settle records the outcome of a flight. The caller holds Cache.mu.
func (e *entry) settle(f *flight, now time.Time) {
	if f.err == nil {
		e.value.Store(f.value)
		e.failure, e.had = failure{}, true
		return
	}
	if f.err.Kind == Unconfigured { // of this caller alone, and no issuer was asked
		return
	}
	var spare time.Duration
	if v := e.value.Load(); v != nil && v.life.phase(now) < phaseExpired {
		spare = v.life.length / 10
	}
	e.failure.add(now, f.err, spare)
}
