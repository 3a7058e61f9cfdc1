// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

const (
	endTime    = 5 * time.Second  // for one call to an issuer
	endAllTime = 10 * time.Second // for all of them, at a shutdown or a reload
	endAtOnce  = 8                // calls at a time
	endQueue   = 1024             // evicted values that wait to be ended
	endGrace   = 30 * time.Second // between a value's eviction and its end: requests may still carry it
)

// Ended counts what became of values that were given up.
type Ended struct {
	Dropped int // values taken out of the cache, and fetches whose outcome is not wanted any more
	Revoked int // of them, ended at their issuer
	Failed  int // of them, which the issuer did not end: they live until their own end
	Lasting int // of them, whose issuer has no such call
}

// Revoke takes out of the cache, at once, the values of all keys that which names, and
// then ends them at their issuers where those can. It returns when that is done or ctx
// ends; what is not done then counts as Failed. A fetch under way for such a key brings
// no value any more. It does not keep new values from being fetched: that is policy's.
// Errors of issuers are logged.
func (c *Cache) Revoke(ctx context.Context, which func(Key) bool) Ended {
	c.mu.Lock()
	var out Ended
	for k, f := range c.flights {
		if which(k) {
			f.unwanted = true
			out.Dropped++
		}
	}
	given := c.drop(func(e *entry) bool { return which(e.key) })
	c.mu.Unlock()
	out.Dropped += len(given)
	return out.plus(c.end(ctx, given))
}

func (e Ended) plus(x Ended) Ended {
	return Ended{e.Dropped + x.Dropped, e.Revoked + x.Revoked, e.Failed + x.Failed, e.Lasting + x.Lasting}
}

// given is a value that nobody is to get any more.
type given struct {
	key   Key
	value *Live
}

// ending is the issuer's call that ends a value, made at most once.
type ending struct {
	call func(context.Context) error
	done atomic.Bool
}

// end calls the issuers of values, some at a time.
func (c *Cache) end(ctx context.Context, list []given) Ended {
	var out Ended
	var mu sync.Mutex
	var wg sync.WaitGroup
	turn := make(chan struct{}, endAtOnce)
	for _, g := range list {
		if g.value.ending == nil {
			out.Lasting++
			continue
		}
		turn <- struct{}{}
		wg.Go(func() {
			defer func() { <-turn }()
			one := c.endOne(ctx, g)
			mu.Lock()
			defer mu.Unlock()
			out = out.plus(one)
		})
	}
	wg.Wait()
	return out
}

func (c *Cache) endOne(ctx context.Context, g given) Ended {
	if !g.value.ending.done.CompareAndSwap(false, true) {
		return Ended{Revoked: 1} // somebody else has
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	if err := c.endSafely(ctx, g); err != nil {
		c.metrics.ended.WithLabelValues(g.key.Provider, "error").Inc()
		c.log.Warn("credential not ended at its issuer, it lives until its own end", "credential", g.key.Provider,
			"workload", g.key.ID.String(), "fingerprint", g.value.fingerprint, "error", err)
		return Ended{Failed: 1}
	}
	c.metrics.ended.WithLabelValues(g.key.Provider, "ok").Inc()
	return Ended{Revoked: 1}
}

func (c *Cache) endSafely(ctx context.Context, g given) (err error) {
	defer func() {
		if p := recover(); p != nil { // its value may quote a secret: only its type is logged
			c.log.Error("credential provider panicked", "credential", g.key.Provider, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			err = fmt.Errorf("the provider panicked")
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	return g.value.ending.call(ctx)
}

// endAll is end for values that are given up with what made them: a shutdown, a reload.
func (c *Cache) endAll(list []given) {
	if len(list) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), endAllTime)
	defer cancel()
	c.end(ctx, list)
}

// evicted takes a value that had to make room, to end it when no request can carry it
// any more. The caller holds c.mu. Where too many wait it is left to its own end.
func (c *Cache) evicted(g given) {
	if g.value == nil || g.value.ending == nil || c.closed {
		return
	}
	if len(c.waiting) >= endQueue {
		c.metrics.ended.WithLabelValues(g.key.Provider, "overflow").Inc()
		return
	}
	c.waiting = append(c.waiting, waiting{g, time.Now().Add(endGrace)})
}

// discard is evicted for a value that nobody has got.
func (c *Cache) discard(k Key, v *Live) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.evicted(given{k, v})
}

// waiting is an evicted value and when it is to be ended.
type waiting struct {
	given
	at time.Time
}

// endEvicted ends what has waited long enough; it is called by the refresher.
func (c *Cache) endEvicted(now time.Time) {
	var due []given
	c.mu.Lock()
	for len(c.waiting) > 0 && !now.Before(c.waiting[0].at) {
		due = append(due, c.waiting[0].given)
		c.waiting = c.waiting[1:]
	}
	if len(due) > 0 {
		c.work.Go(func() { c.endAll(due) })
	}
	c.mu.Unlock()
}
