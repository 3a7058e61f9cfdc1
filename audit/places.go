// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import "sync/atomic"

// States of a place.
const (
	stateFree uint32 = iota
	stateReserved
	stateQueued
)

// place holds one record from Begin until it has been written. All places are made at
// start: the request path allocates nothing.
type place struct {
	journal *Journal
	index   uint32
	next    atomic.Uint32 // index+1 of the place below in the list that it is in; 0: none
	state   atomic.Uint32
	rec     Record
}

// Write implements Slot.
func (p *place) Write(r Record) {
	if !p.state.CompareAndSwap(stateReserved, stateQueued) {
		p.journal.misuse()
		return
	}
	p.rec = r
	p.journal.ready.push(p)
	p.journal.queued()
}

// Cancel implements Slot.
func (p *place) Cancel() {
	if !p.state.CompareAndSwap(stateReserved, stateQueued) {
		p.journal.misuse()
		return
	}
	p.journal.giveBack(p)
}

// list is a lock-free stack of places. The upper half of head counts changes, so that
// a pop that was overtaken by a pop and a push of the same place fails (the ABA
// problem); the lower half is index+1 of the top, 0 where the list is empty. A place is
// in one list at most.
type list struct{ head atomic.Uint64 }

func succ(head uint64, top uint32) uint64 { return (head>>32+1)<<32 | uint64(top) }

func (l *list) push(p *place) {
	for {
		h := l.head.Load()
		p.next.Store(uint32(h))
		if l.head.CompareAndSwap(h, succ(h, p.index+1)) {
			return
		}
	}
}

func (l *list) empty() bool { return uint32(l.head.Load()) == 0 }

// pop takes the top place, nil where there is none.
func (l *list) pop(places []place) *place {
	for {
		h := l.head.Load()
		top := uint32(h)
		if top == 0 {
			return nil
		}
		p := &places[top-1]
		if l.head.CompareAndSwap(h, succ(h, p.next.Load())) {
			return p
		}
	}
}

// takeAll empties the list and appends its places to dst, the one pushed first first.
func (l *list) takeAll(places []place, dst []*place) []*place {
	h := l.head.Load()
	for uint32(h) != 0 && !l.head.CompareAndSwap(h, succ(h, 0)) {
		h = l.head.Load()
	}
	from := len(dst)
	for top := uint32(h); top != 0; top = places[top-1].next.Load() {
		dst = append(dst, &places[top-1])
	}
	for i, j := from, len(dst)-1; i < j; i, j = i+1, j-1 {
		dst[i], dst[j] = dst[j], dst[i]
	}
	return dst
}
