// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// CacheOptions holds the bounds and collaborators of a Cache. The zero value is usable.
type CacheOptions struct {
	Size        int                   // entries in all; default 10,000
	PerWorkload int                   // entries of one workload; default 256
	Wait        time.Duration         // for a first credential; default 10 s
	Self        func() Subject        // egret's own identity, for AsSelf and Shared; nil: none
	Registerer  prometheus.Registerer // nil: no metrics
	Logger      *slog.Logger          // nil: silent
}

// Cache is the Source around all providers. It refreshes ahead, with at most one flight
// per Key, and never serves a value within 5 s of its end (MUST C1 to C5, C7, C8, C13).
// Its methods are safe for concurrent use.
//
// A value in the first 70 % of its life is served under a read lock, without
// allocation. Everything else happens under one write lock that is never held while
// an issuer is asked.
type Cache struct {
	opts    CacheOptions
	log     *slog.Logger
	metrics *metrics
	base    context.Context // of all flights
	cancel  context.CancelFunc
	work    sync.WaitGroup // flights, followers of changes, the refresher

	mu       sync.RWMutex
	closed   bool
	installs int
	specs    map[specKey]*spec
	told     map[string]time.Time // by name of the credential: when its source last changed
	replaced []*spec              // same name and generation, installed again; closed on retire
	store    *store
	flights  map[Key]*flight
	waiting  []waiting // evicted, to be ended at their issuers
}

// NewCache starts a cache without specs: every Key is Unconfigured until Install. It
// fails where the metrics are registered already. Close it.
func NewCache(o CacheOptions) (*Cache, error) {
	o = o.withDefaults()
	st, err := newStore(o.Size, o.PerWorkload)
	if err != nil {
		return nil, fmt.Errorf("credential cache: %w", err)
	}
	c := &Cache{opts: o, log: o.Logger, store: st, specs: map[specKey]*spec{}, told: map[string]time.Time{}, flights: map[Key]*flight{}}
	st.evicted = c.evicted
	if c.metrics, err = newMetrics(o.Registerer, c); err != nil {
		return nil, fmt.Errorf("credential cache: %w", err)
	}
	c.base, c.cancel = context.WithCancel(context.Background())
	c.work.Go(c.refresher)
	return c, nil
}

func (o CacheOptions) withDefaults() CacheOptions {
	if o.Size <= 0 {
		o.Size = 10_000
	}
	if o.PerWorkload <= 0 {
		o.PerWorkload = 256
	}
	if o.Wait <= 0 {
		o.Wait = 10 * time.Second
	}
	if o.Self == nil {
		o.Self = func() Subject { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Credential implements Source. It returns a fresh value at once, waits up to a second
// for a better one near the end of its life, and up to CacheOptions.Wait for the first.
func (c *Cache) Credential(ctx context.Context, k Key, s Subject) (Credential, error) {
	if v := c.Held(k, s); v != nil {
		return v, nil
	}
	v, err := c.slow(ctx, k, s)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Held implements Source: a value in the first 70 % of its life.
func (c *Cache) Held(k Key, s Subject) Credential {
	now := time.Now()
	c.mu.RLock()
	e := c.store.entries[k]
	c.mu.RUnlock()
	if e == nil {
		return nil
	}
	v := e.value.Load()
	if v == nil || v.life.phase(now) != phaseFresh {
		return nil
	}
	c.touch(e, s, now)
	return v
}

// touch notes a use. Order and subject are kept to the second, so that the write lock
// is taken at most that often per entry.
func (c *Cache) touch(e *entry, s Subject, now time.Time) {
	ns := now.UnixNano()
	e.used.Store(ns)
	last := e.promoted.Load()
	if ns-last < int64(time.Second) || !e.promoted.CompareAndSwap(last, ns) {
		return
	}
	weak := weaken(s)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store.promote(e.key)
	if weak.elem != nil {
		e.subject = weak
	}
}

// ask is what a caller that found no fresh value goes on with.
type ask struct {
	current *Live // may still be served, nil if not
	phase   phase
	flight  *flight // nil: the issuer is not asked now
	err     *Error  // why, where there is no flight
}

func (c *Cache) slow(ctx context.Context, k Key, s Subject) (*Live, error) {
	a := c.begin(k, s)
	switch {
	case a.current != nil && a.phase <= phaseSoft:
		return a.current, nil
	case a.current != nil:
		return c.waitBriefly(ctx, a)
	case a.flight == nil:
		return nil, a.err
	}
	return c.waitFirst(ctx, a.flight)
}

// begin finds or starts the flight that k needs.
func (c *Cache) begin(k Key, s Subject) ask {
	c.mu.Lock()
	defer c.mu.Unlock()
	sp, err := c.specOf(&k)
	if err != nil {
		return ask{err: err}
	}
	now := time.Now()
	e := c.store.getOrAdd(k)
	e.used.Store(now.UnixNano())
	if w := weaken(s); w.elem != nil {
		e.subject = w
	}
	a := ask{phase: phaseExpired}
	if v := e.value.Load(); v != nil {
		if a.phase = v.life.phase(now); a.phase < phaseExpired {
			a.current = v
		}
	}
	if a.phase != phaseFresh {
		a.flight, a.err = c.fly(e, sp, s, now)
	}
	return a
}

// specOf finds the spec of k and holds k to it: a shared value has no workload in its
// key and any other has one, so that nothing is shared by mistake (MUST C3).
func (c *Cache) specOf(k *Key) (*spec, *Error) {
	sp := c.specs[k.spec()]
	switch {
	case c.closed:
		return nil, &Error{Kind: Unconfigured, Err: errors.New("the credential cache is closed")}
	case sp == nil:
		return nil, &Error{Kind: Unconfigured, Err: fmt.Errorf("no credential %q of generation %q is installed", k.Provider, k.Generation)}
	case sp.Shared:
		k.ID = spiffeid.ID{}
	case k.ID.IsZero():
		return nil, &Error{Kind: Unconfigured, Err: fmt.Errorf("credential %q is not shared, but no workload is named", k.Provider)}
	}
	return sp, nil
}

// waitBriefly serves the current value when the flight brings no better one in time.
func (c *Cache) waitBriefly(ctx context.Context, a ask) (*Live, error) {
	if a.flight != nil && a.flight.await(ctx, hardWait) && a.flight.err == nil {
		return a.flight.deliver()
	}
	if a.current.life.phase(time.Now()) < phaseExpired {
		c.metrics.stale.Inc()
		return a.current, nil
	}
	if a.flight == nil {
		return nil, a.err
	}
	return c.waitFirst(ctx, a.flight)
}

func (c *Cache) waitFirst(ctx context.Context, f *flight) (*Live, error) {
	start := time.Now()
	if !f.await(ctx, c.opts.Wait) {
		err := fmt.Errorf("no answer from the issuer of %q in %s", f.key.Provider, time.Since(start).Round(time.Millisecond))
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", err, cause)
		}
		return nil, &Error{Kind: Unreachable, Err: err}
	}
	return f.deliver()
}

const (
	refusalBase = 5 * time.Second
	refusalCap  = time.Minute
	refusalMemo = 5 * time.Minute // without a refusal for this long, the count starts again
)

// Invalidate implements Source. The first refusal drops the value, and so lets the next
// caller fetch another. While that one is new, further refusals are not believed: a
// SaaS that answers 401 to fresh values would otherwise make egret mint without end,
// and one caller's forbidden request would take a shared value from all others.
func (c *Cache) Invalidate(k Key, fingerprint string) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	sp, err := c.specOf(&k)
	if err != nil {
		return
	}
	e := c.store.entries[k]
	if e == nil {
		return
	}
	v := e.value.Load()
	if v == nil || v.fingerprint != fingerprint || now.Before(e.refused) {
		return
	}
	if now.Sub(e.refused) > refusalMemo {
		e.refusals = 0
	}
	e.refusals++
	e.refused = now.Add(exponential(refusalBase, e.refusals, refusalCap))
	e.value.Store(nil)
	e.had = false
	if r, ok := sp.Provider.(Refuser); ok {
		r.Refused(k, fingerprint)
	}
	c.log.Warn("credential refused by its destination", "credential", k.Provider, "workload", k.ID.String(), "fingerprint", fingerprint)
}

// Close ends all flights and all values, at their issuers too where those can, and closes
// all providers. It takes at most some ten seconds. Values are not served afterwards.
func (c *Cache) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	last := c.drop(func(*entry) bool { return true })
	for _, w := range c.waiting {
		last = append(last, w.given)
	}
	c.waiting = nil
	for _, f := range c.flights {
		f.unwanted = true
	}
	all := c.installs + 1
	c.mu.Unlock()
	c.cancel()
	c.endAll(last)
	c.retire(all)
	c.work.Wait()
	c.metrics.unregister()
}
