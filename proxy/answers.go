// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// answers are what names have resolved to lately, to compare with where captured
// connections were going. It is a signal and nothing is dialled by it. The zero value is
// empty. Safe for concurrent use.
type answers struct {
	mu   sync.Mutex
	name map[string]*answer
}

type answer struct {
	asked time.Time
	seen  map[netip.Addr]time.Time
}

// Bounds of what is remembered: CDNs answer with other addresses every few seconds.
const (
	answersKept   = time.Hour
	answerNames   = 4096 // one more, and they are forgotten: a signal is not worth more memory
	answerAddrs   = 256  // of one name
	answersFresh  = time.Second
	learnDeadline = 5 * time.Second
)

// add notes what a name has resolved to.
func (a *answers) add(host string, addrs []netip.Addr, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.name == nil || len(a.name) >= answerNames {
		a.name = map[string]*answer{}
	}
	n := a.name[host]
	if n == nil || len(n.seen) >= answerAddrs {
		n = &answer{seen: map[netip.Addr]time.Time{}}
		a.name[host] = n
	}
	n.asked = now
	for _, addr := range addrs {
		n.seen[addr.Unmap().WithZone("")] = now
	}
}

// has reports whether the name has resolved to the address, and whether that is known.
func (a *answers) has(host string, addr netip.Addr, now time.Time) (match, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.name[host]
	if n == nil {
		return false, false
	}
	at, ok := n.seen[addr]
	return ok && now.Sub(at) < answersKept, true
}

// fresh reports whether the name has been asked for a moment ago.
func (a *answers) fresh(host string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := a.name[host]
	return n != nil && now.Sub(n.asked) < answersFresh
}
