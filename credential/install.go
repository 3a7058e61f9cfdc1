// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"fmt"
	"sync"
	"time"
)

// Install makes specs available beside those that are there: first Install, then swap
// the policy that names the new generations, then call retire, which takes away what
// this Install replaced, with its values, and closes those providers. Entries of an
// unchanged generation keep their values, those of a Notifier only where it is a Resumer
// and says so. A faulty Spec (see Validate) is not installed,
// so that its keys are Unconfigured. retire may be called more than once and blocks
// until the providers are closed.
func (c *Cache) Install(specs []Spec) (retire func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.installs++
	seq := c.installs
	for _, s := range specs {
		if err := c.add(s, seq); err != nil {
			c.log.Error("credential not installed", "credential", s.Name, "error", err)
		}
	}
	return sync.OnceFunc(func() { c.retire(seq) })
}

func (c *Cache) add(s Spec, seq int) error {
	sp := newSpec(s, seq)
	err := s.Validate()
	if c.closed {
		err = fmt.Errorf("the credential cache is closed")
	}
	if err != nil {
		if s.Provider != nil {
			_ = sp.Close()
		}
		return err
	}
	k := specKey{s.Name, s.Generation}
	n, follows := s.Provider.(Notifier)
	if old := c.specs[k]; old != nil {
		c.replaced = append(c.replaced, old)
		sp.limiter.full = old.limiter.full
		if follows { // between the two, a change may have been seen by neither
			old.epoch++
			c.resume(k, n)
		}
	}
	c.specs[k] = sp
	if follows {
		c.work.Go(func() { c.follow(sp, n) })
	}
	return nil
}

// retire removes all that was installed before seq.
func (c *Cache) retire(seq int) {
	c.mu.Lock()
	var old []*spec
	for k, sp := range c.specs {
		if sp.install < seq {
			old = append(old, sp)
			delete(c.specs, k)
		}
	}
	keep := c.replaced[:0:0]
	for _, sp := range c.replaced {
		if sp.install < seq {
			old = append(old, sp)
		} else {
			keep = append(keep, sp)
		}
	}
	c.replaced = keep
	for _, sp := range old {
		sp.retired = true
		close(sp.stop)
	}
	gone := c.drop(func(e *entry) bool { return c.specs[e.key.spec()] == nil })
	c.mu.Unlock()
	c.endAll(gone) // before their providers are closed
	for _, sp := range old {
		if err := sp.Close(); err != nil {
			c.log.Warn("credential provider not closed cleanly", "credential", sp.Name, "error", err)
		}
	}
}

// drop removes entries and returns their values. The caller holds c.mu.
func (c *Cache) drop(which func(*entry) bool) []given {
	var out []given
	for k, e := range c.store.entries {
		if !which(e) {
			continue
		}
		if v := e.value.Swap(nil); v != nil {
			out = append(out, given{k, v})
		}
		c.store.remove(k)
	}
	return out
}

// forget empties the entries of one spec, except those whose value is to stay; flights in
// the air still find them. The caller holds c.mu.
func (c *Cache) forget(k specKey, stays func(*Live) bool) {
	for key, e := range c.store.entries {
		if v := e.value.Load(); key.spec() == k && (v == nil || !stays(v)) {
			e.value.Store(nil)
			e.failure, e.had, e.refused = failure{}, false, time.Time{}
		}
	}
}

// resume forgets what n, which replaces another Notifier, cannot answer for. The caller
// holds c.mu.
func (c *Cache) resume(k specKey, n Notifier) {
	r, ok := n.(Resumer)
	c.forget(k, func(v *Live) bool { return ok && r.Resumes(v.fingerprint) })
}

// follow drops the values and failures of sp whenever its provider tells of a change.
func (c *Cache) follow(sp *spec, n Notifier) {
	for {
		select {
		case <-sp.stop:
			return
		case _, ok := <-n.Changes():
			if !ok {
				return
			}
			k := specKey{sp.Name, sp.Generation}
			c.mu.Lock()
			sp.epoch++
			c.forget(k, func(*Live) bool { return false })
			first := c.firstTold(sp.Name)
			c.mu.Unlock()
			if first { // those that were replaced follow the same source for a while
				c.log.Info("credential changed at its source", "credential", sp.Name)
			}
		}
	}
}

// sameChange is how far apart the providers of one source, old generations included, may
// tell of one change of it.
const sameChange = 10 * time.Second

// firstTold reports whether nobody told of a change of this credential just now. The
// caller holds c.mu.
func (c *Cache) firstTold(name string) bool {
	now := time.Now()
	last, ok := c.told[name]
	c.told[name] = now
	return !ok || now.Sub(last) > sameChange
}
