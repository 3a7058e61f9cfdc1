// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package stats says what interleaved rounds of a measurement are worth: medians with
// their spread, ratios of what was measured in the same round, and when a spread is so
// wide that a figure would mislead.
package stats

import (
	"math"
	"slices"
)

// Spread is the middle of a sample: median and quartiles.
type Spread struct {
	Median float64 `json:"median"`
	Q1     float64 `json:"q1"`
	Q3     float64 `json:"q3"`
	N      int     `json:"n"`
}

// Of sums up a sample. Values that are not finite are left out.
func Of(sample []float64) Spread {
	s := slices.DeleteFunc(slices.Clone(sample), func(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) })
	slices.Sort(s)
	return Spread{Median: quantile(s, 0.5), Q1: quantile(s, 0.25), Q3: quantile(s, 0.75), N: len(s)}
}

// quantile interpolates linearly between the two nearest of a sorted sample.
func quantile(s []float64, q float64) float64 {
	if len(s) == 0 {
		return 0
	}
	at := q * float64(len(s)-1)
	i := int(at)
	if i+1 >= len(s) {
		return s[len(s)-1]
	}
	return s[i] + (at-float64(i))*(s[i+1]-s[i])
}

// Rounds below which no spread is believed.
const enough = 3

// IQR is the distance between the quartiles.
func (s Spread) IQR() float64 { return s.Q3 - s.Q1 }

// Noisy reports whether the spread is too wide for the median to be quoted: the
// quartiles lie further apart than the share of the median, or there are too few rounds.
func (s Spread) Noisy(share float64) bool {
	return s.N < enough || s.IQR() > share*math.Abs(s.Median)
}

// Ratios divides what was measured in the same round. Rounds where either is missing
// or zero are left out.
func Ratios(a, b []float64) []float64 {
	out := make([]float64, 0, len(a))
	for i := range min(len(a), len(b)) {
		if a[i] > 0 && b[i] > 0 {
			out = append(out, a[i]/b[i])
		}
	}
	return out
}
