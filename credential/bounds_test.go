// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// TestHundredThousandKeys: ten times as many keys as there is room for, of a thousand
// workloads. Everybody gets what was minted for it, and memory stays where it was when
// the room was first full.
func TestHundredThousandKeys(t *testing.T) {
	const size, workloads, rounds = 10_000, 1_000, 10 // 100,000 keys
	p := &issuer{lifetime: time.Hour}
	s := specWith(t, p)
	s.Rate = Rate{PerMinute: 1 << 30, Burst: 1 << 20}
	c := newCache(t, CacheOptions{Size: size, PerWorkload: 64}, s)
	defer c.Close()
	var full uint64
	for round := range rounds {
		for i := range size {
			id := spiffeid.RequireFromString(fmt.Sprintf("spiffe://acme.example/w%d", i%workloads))
			k := keyOf(id)
			k.Scopes = fmt.Sprintf("scope-%d-%d", round, i)
			v, err := c.Credential(t.Context(), k, here)
			if err != nil {
				t.Fatal(err)
			}
			if got := v.(*Live).inject[0].wire.Reveal(); !strings.HasSuffix(got, "-for-"+id.String()) {
				t.Fatalf("%s was given %q", id, got)
			}
		}
		p.set(func(p *issuer) { p.subjects, p.inAir = nil, nil })
		if heap := heapInUse(); round == 0 {
			full = heap
		} else if heap > full+full/2+(4<<20) {
			t.Errorf("round %d: %d KiB in use, %d when it was first full", round, heap>>10, full>>10)
		}
		if n := len(c.Snapshot()); n > size {
			t.Fatalf("%d entries, more than %d", n, size)
		}
	}
	if p.count() != size*rounds {
		t.Errorf("%d fetches for %d keys", p.count(), size*rounds)
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
