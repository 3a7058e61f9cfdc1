// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"math/rand/v2"
	"time"
)

const (
	sweepEvery  = time.Second
	sweepFlight = 64 // background flights started in one sweep
)

// refresher renews values that are used, ahead of their end and without a request, and
// forgets those that have ended. It begins at a random moment, so that a fleet that was
// started at once does not sweep in step (MUST C13).
func (c *Cache) refresher() {
	if !sleep(c.base, rand.N(sweepEvery)) {
		return
	}
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for {
		c.sweep(time.Now())
		c.endEvicted(time.Now())
		select {
		case <-t.C:
		case <-c.base.Done():
			return
		}
	}
}

func (c *Cache) sweep(now time.Time) {
	due, ended := c.findDue(now)
	if len(due)+len(ended) == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range ended {
		if v := e.value.Load(); v != nil && v.life.phase(now) == phaseExpired {
			e.value.Store(nil) // a secret has no business in memory after its end
		}
	}
	for _, e := range due {
		c.refresh(e, now)
	}
}

func (c *Cache) findDue(now time.Time) (due, ended []*entry) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for _, e := range c.store.entries {
		v := e.value.Load()
		if v == nil {
			continue
		}
		switch p := v.life.phase(now); {
		case p == phaseExpired:
			ended = append(ended, e)
		case p > phaseFresh && len(due) < sweepFlight && e.used.Load() > v.life.sent.UnixNano() && !e.failure.active(now):
			due = append(due, e)
		}
	}
	return due, ended
}

// refresh starts a background flight with the newest caller that is still alive. The
// caller holds c.mu.
func (c *Cache) refresh(e *entry, now time.Time) {
	sp := c.specs[e.key.spec()]
	if sp == nil || c.closed || c.store.entries[e.key] != e {
		return
	}
	s := e.subject.subject()
	if s == nil && !sp.Shared && !sp.AsSelf {
		return
	}
	_, _ = c.fly(e, sp, s, now)
}
