// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package stats

import (
	"math"
	"slices"
)

// MannWhitney returns how probable it is that two samples of one distribution differ by
// rank as much as these do, in either direction (the two-sided U test). It is exact, ties
// included: all ways to deal the values to the two sides are counted. It asks nothing of
// the distribution. 1 where a side is empty.
func MannWhitney(a, b []float64) float64 {
	if len(a) == 0 || len(b) == 0 {
		return 1
	}
	ranks := doubledRanks(slices.Concat(a, b))
	sum := 0
	for _, r := range ranks[:len(a)] {
		sum += r
	}
	ways := deals(ranks, len(a))
	var below, above, all float64
	for s, n := range ways {
		all += n
		if s <= sum {
			below += n
		}
		if s >= sum {
			above += n
		}
	}
	return min(1, 2*min(below, above)/all)
}

// LeastP is the smallest result that MannWhitney can have for samples of these sizes.
func LeastP(n, m int) float64 {
	ways := 1.0
	for i := 1; i <= n; i++ {
		ways *= float64(m+i) / float64(i)
	}
	return min(1, 2/math.Round(ways))
}

// doubledRanks are twice the ranks, so that the mean rank of ties is a whole number.
func doubledRanks(values []float64) []int {
	sorted := slices.Sorted(slices.Values(values))
	out := make([]int, len(values))
	for i, v := range values {
		first, _ := slices.BinarySearch(sorted, v)
		after := first
		for after < len(sorted) && sorted[after] == v {
			after++
		}
		out[i] = first + 1 + after // (first+1 + after)/2, doubled
	}
	return out
}

// deals counts for each sum the choices of n of the ranks that have it.
func deals(ranks []int, n int) []float64 {
	top := 0
	for _, r := range ranks {
		top += r
	}
	ways := make([][]float64, n+1)
	for k := range ways {
		ways[k] = make([]float64, top+1)
	}
	ways[0][0] = 1
	for _, r := range ranks {
		for k := n; k > 0; k-- {
			for s := top; s >= r; s-- {
				ways[k][s] += ways[k-1][s-r]
			}
		}
	}
	return ways[n]
}
