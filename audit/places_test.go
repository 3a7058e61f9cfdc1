// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import "testing"

// A pop that read the head before another goroutine popped and pushed the same place
// must fail its compare-and-swap, or it would install a stale next.
func TestHeadNeverRepeats(t *testing.T) {
	places, l := make([]place, 2), list{}
	for i := range places {
		places[i].index = uint32(i)
		l.push(&places[i])
	}
	seen := map[uint64]bool{l.head.Load(): true}
	for range 1000 {
		l.push(l.pop(places))
		if h := l.head.Load(); seen[h] {
			t.Fatalf("head %#x came back", h)
		} else {
			seen[h] = true
		}
	}
}

func TestListOrder(t *testing.T) {
	places, l := make([]place, 3), list{}
	for i := range places {
		places[i].index = uint32(i)
		l.push(&places[i])
	}
	if p := l.pop(places); p != &places[2] {
		t.Errorf("pop gave place %d, want the newest", p.index)
	}
	got := l.takeAll(places, nil)
	if len(got) != 2 || got[0] != &places[0] || got[1] != &places[1] {
		t.Errorf("takeAll gave %d places or the wrong order", len(got))
	}
	if l.pop(places) != nil || len(l.takeAll(places, nil)) != 0 {
		t.Error("the list is not empty")
	}
}
