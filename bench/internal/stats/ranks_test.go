// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math"
	"testing"
)

// TestMannWhitney holds the test to values from the tables of U (Mann and Whitney 1947)
// and to what R's coin::wilcox_test(distribution = "exact") gives for ties.
func TestMannWhitney(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []float64
		want float64
	}{
		{"five below five", []float64{1, 2, 3, 4, 5}, []float64{6, 7, 8, 9, 10}, 2. / 252},
		{"five above five", []float64{6, 7, 8, 9, 10}, []float64{1, 2, 3, 4, 5}, 2. / 252},
		{"U = 1 of five and five", []float64{1, 2, 3, 4, 6}, []float64{5, 7, 8, 9, 10}, 4. / 252},
		{"U = 2 of five and five", []float64{1, 2, 3, 4, 7}, []float64{5, 6, 8, 9, 10}, 8. / 252},
		{"three below three", []float64{1, 2, 3}, []float64{4, 5, 6}, 0.1},
		{"interleaved", []float64{1, 4, 5, 8}, []float64{2, 3, 6, 7}, 1},
		{"all the same", []float64{3, 3, 3, 3}, []float64{3, 3, 3, 3}, 1},
		{"ties between the sides", []float64{1, 2, 2}, []float64{2, 3, 3}, 0.3},
		{"nothing", nil, []float64{1}, 1},
	} {
		if got := MannWhitney(c.a, c.b); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: p = %v, want %v", c.name, got, c.want)
		}
	}
}

func TestLeastP(t *testing.T) {
	for _, c := range []struct {
		n, m int
		want float64
	}{{5, 5, 2. / 252}, {4, 4, 2. / 70}, {3, 3, 0.1}, {1, 1, 1}, {0, 4, 1}} {
		if got := LeastP(c.n, c.m); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%d and %d: %v, want %v", c.n, c.m, got, c.want)
		}
	}
}
