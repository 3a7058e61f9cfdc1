// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"cmp"
	"slices"
	"time"
)

// Entry describes one cached credential for people. It never holds the value.
type Entry struct {
	Key         Key
	Provider    string
	State       string        // fresh, refresh_due, ending, expired, none; backoff where the issuer is not asked now
	Fetching    bool          // a flight is in the air
	Fingerprint string        // empty without a value
	Age         time.Duration // since the value was asked for
	Remaining   time.Duration // for which it may still be served; never negative
	LastError   string        // Kind of the last failure since the last success
	LastUsed    time.Time
}

// Snapshot lists what is cached, ordered by provider and workload.
func (c *Cache) Snapshot() []Entry {
	now := time.Now()
	c.mu.RLock()
	out := make([]Entry, 0, len(c.store.entries))
	for k, e := range c.store.entries {
		s := e.describe(now)
		s.Fetching = c.flights[k] != nil
		out = append(out, s)
	}
	c.mu.RUnlock()
	slices.SortFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Key.ID.String(), b.Key.ID.String()),
			cmp.Compare(a.Key.Generation, b.Key.Generation), cmp.Compare(a.Key.Scopes, b.Key.Scopes),
			cmp.Compare(a.Key.Audience, b.Key.Audience), cmp.Compare(a.Key.Resource, b.Key.Resource))
	})
	return out
}

func (e *entry) describe(now time.Time) Entry {
	out := Entry{Key: e.key, Provider: e.key.Provider, State: "none", LastUsed: time.Unix(0, e.used.Load())}
	if e.failure.err != nil {
		out.LastError = e.failure.err.Kind.String()
	}
	v := e.value.Load()
	if v != nil {
		out.Fingerprint = v.fingerprint
		out.Age = v.life.elapsed(now)
		out.Remaining = max(v.life.remaining(now), 0)
		out.State = v.life.phase(now).String()
	}
	if out.Remaining == 0 && e.failure.active(now) {
		out.State = "backoff"
	}
	return out
}

func (p phase) String() string {
	return [...]string{"none", "fresh", "refresh_due", "ending", "expired"}[p]
}
