// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name   string
		sample []float64
		want   Spread
	}{
		{"nothing", nil, Spread{}},
		{"one", []float64{7}, Spread{7, 7, 7, 1}},
		{"unsorted", []float64{5, 1, 4, 2, 3}, Spread{3, 2, 4, 5}},
		{"between two", []float64{1, 2}, Spread{1.5, 1.25, 1.75, 2}},
		{"not finite", []float64{math.NaN(), 2, math.Inf(1)}, Spread{2, 2, 2, 1}},
	} {
		if d := cmp.Diff(c.want, Of(c.sample)); d != "" {
			t.Errorf("%s: %s", c.name, d)
		}
	}
}

func TestNoisy(t *testing.T) {
	for _, c := range []struct {
		name string
		s    Spread
		want bool
	}{
		{"narrow", Spread{Median: 2, Q1: 1.9, Q3: 2.1, N: 5}, false},
		{"wide", Spread{Median: 2, Q1: 1, Q3: 3, N: 5}, true},
		{"just wide", Spread{Median: 2, Q1: 1.7, Q3: 2.3, N: 5}, true},
		{"few rounds", Spread{Median: 2, Q1: 2, Q3: 2, N: 2}, true},
		{"negative", Spread{Median: -2, Q1: -2.1, Q3: -1.9, N: 5}, false},
		{"around zero", Spread{Median: 0, Q1: -1, Q3: 1, N: 5}, true},
	} {
		if got := c.s.Noisy(0.25); got != c.want {
			t.Errorf("%s: noisy is %v, want %v", c.name, got, c.want)
		}
	}
}

// TestPairs: a drift of the machine that hits both sides of a round alike cancels out,
// which it would not in a ratio of medians of unpaired samples.
func TestPairs(t *testing.T) {
	a, b := []float64{2, 4, 0, 16, 3}, []float64{1, 2, 5, 8}
	if d := cmp.Diff([]float64{2, 2, 2}, Ratios(a, b)); d != "" {
		t.Error(d)
	}
}
