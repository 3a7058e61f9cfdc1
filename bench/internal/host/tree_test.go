// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"
	"time"
)

func TestSince(t *testing.T) {
	type tree = map[int]time.Duration
	for _, c := range []struct {
		name         string
		now, earlier tree
		want         time.Duration
		ok           bool
	}{
		{"one", tree{1: 5}, tree{1: 2}, 3, true},
		{"workers", tree{1: 5, 2: 10}, tree{1: 5, 2: 4}, 6, true},
		{"a new one counts from its start", tree{1: 5, 2: 10}, tree{1: 5}, 10, true},
		{"one has ended", tree{1: 5}, tree{1: 5, 2: 4}, 0, false},
		{"nothing before", tree{1: 5}, nil, 5, true},
	} {
		if got, err := Since(c.now, c.earlier); got != c.want || (err == nil) != c.ok {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
	}
}
