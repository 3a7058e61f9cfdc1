// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// entry is what the cache knows about one Key. value and used may be read without a
// lock; all else is guarded by Cache.mu.
type entry struct {
	key      Key
	value    atomic.Pointer[Live]
	used     atomic.Int64 // last served, Unix nanoseconds
	promoted atomic.Int64 // last moved to the front of its LRU
	subject  weakSubject  // newest caller
	failure  failure
	refusals int       // by the SaaS, in a row
	refused  time.Time // until then a further refusal is not believed (MUST C7)
	had      bool      // a value was there and has ended
}

// store holds entries, bounded per workload and in all. It is not safe for concurrent
// use; Cache.mu guards it.
type store struct {
	size, perWorkload int
	entries           map[Key]*entry
	owners            *simplelru.LRU[spiffeid.ID, *owner]
	evicted           func(given) // takes what had to make room
}

type owner = simplelru.LRU[Key, struct{}]

func newStore(size, perWorkload int) (*store, error) {
	owners, err := simplelru.NewLRU[spiffeid.ID, *owner](size+1, nil)
	return &store{size: size, perWorkload: perWorkload, entries: map[Key]*entry{}, owners: owners, evicted: func(given) {}}, err
}

// getOrAdd returns the entry of k, making room where there is none.
func (s *store) getOrAdd(k Key) *entry {
	if e := s.entries[k]; e != nil {
		s.promote(k)
		return e
	}
	o, ok := s.owners.Get(k.ID)
	if !ok {
		o, _ = simplelru.NewLRU[Key, struct{}](s.perWorkload+1, nil) // fails only for size 0
		s.owners.Add(k.ID, o)
	}
	o.Add(k, struct{}{})
	e := &entry{key: k}
	s.entries[k] = e
	s.shrink(k.ID, o)
	return e
}

// shrink keeps the bounds. A workload above its share loses its own oldest entry; only
// one that holds no more than that takes the place of the longest unused workload.
func (s *store) shrink(id spiffeid.ID, o *owner) {
	if o.Len() > s.perWorkload {
		s.removeOldest(id, o)
	}
	if len(s.entries) <= s.size {
		return
	}
	if share := s.size / s.owners.Len(); o.Len() > max(share, 1) {
		s.removeOldest(id, o)
		return
	}
	if oldID, old, ok := s.owners.GetOldest(); ok {
		s.removeOldest(oldID, old)
	}
}

func (s *store) removeOldest(id spiffeid.ID, o *owner) {
	if k, _, ok := o.RemoveOldest(); ok {
		if e := s.entries[k]; e != nil {
			s.evicted(given{k, e.value.Load()})
		}
		delete(s.entries, k)
	}
	if o.Len() == 0 {
		s.owners.Remove(id)
	}
}

func (s *store) promote(k Key) {
	if o, ok := s.owners.Get(k.ID); ok {
		o.Get(k)
	}
}

func (s *store) remove(k Key) {
	delete(s.entries, k)
	if o, ok := s.owners.Peek(k.ID); ok {
		if o.Remove(k); o.Len() == 0 {
			s.owners.Remove(k.ID)
		}
	}
}
