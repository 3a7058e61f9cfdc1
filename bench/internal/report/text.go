// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"time"

	"github.com/egret-proxy/egret/bench/internal/stats"
)

const (
	nothing = "–"
	noisy   = "noisy"
)

func ratioText(s stats.Spread) string {
	switch {
	case s.N == 0:
		return nothing
	case s.Noisy(noisyRatio):
		return noisy
	}
	return fmt.Sprintf("**%.2f** (%.2f–%.2f)", s.Median, s.Q1, s.Q3)
}

// addedText prints a difference.
func addedText(s stats.Spread) string {
	switch {
	case s.N == 0:
		return nothing
	case s.Noisy(noisyDifference):
		return noisy
	}
	return fmt.Sprintf("**%s** (%s–%s)", duration(s.Median), duration(s.Q1), duration(s.Q3))
}

func durationText(s stats.Spread) string {
	if s.N == 0 {
		return nothing
	}
	return fmt.Sprintf("%s (%s–%s)", duration(s.Median), duration(s.Q1), duration(s.Q3))
}

func numberText(s stats.Spread, unit float64, suffix string) string {
	if s.N == 0 {
		return nothing
	}
	return fmt.Sprintf("%.0f%s (%.0f–%.0f)", s.Median/unit, suffix, s.Q1/unit, s.Q3/unit)
}

// duration prints nanoseconds with three significant digits.
func duration(ns float64) string {
	d := time.Duration(ns)
	if ns == 0 {
		return "0s"
	}
	digits := math.Floor(math.Log10(math.Abs(ns))) - 2
	return d.Round(time.Duration(max(1, math.Pow(10, digits)))).String()
}
