// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/egret-proxy/egret/bench/internal/stats"
)

// A ratio whose quartiles lie further apart than this share of it is not printed, nor a
// difference (of latencies, which spread more) or a ratio of differences beyond the
// other.
const (
	noisyRatio      = 0.25
	noisyDifference = 0.5
)

const (
	nothing = "–"
	noisy   = "noisy"
)

// tolerance is the spread up to which a ratio of the measure is believed.
func tolerance(measure string) float64 {
	if measure == AddedP50 || measure == AddedP99 {
		return noisyDifference
	}
	return noisyRatio
}

func ratioText(s stats.Spread) string { return shareText(s, noisyRatio) }

// shareText prints a ratio unless its quartiles lie further apart than the share.
func shareText(s stats.Spread, share float64) string {
	switch {
	case s.N == 0:
		return nothing
	case s.Noisy(share):
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

func durationText(s stats.Spread) string { return unitText(s, Nanoseconds) }

// unitText prints a value with its quartiles, which are left out where all are the same.
func unitText(s stats.Spread, u Unit) string {
	switch {
	case s.N == 0:
		return nothing
	case s.N == 1:
		return valueText(s.Median, u)
	}
	return fmt.Sprintf("%s (%s–%s)", valueText(s.Median, u), valueText(s.Q1, u), valueText(s.Q3, u))
}

// ValueText prints one value in its unit with three significant digits.
func ValueText(v float64, u Unit) string { return valueText(v, u) }

func valueText(v float64, u Unit) string {
	switch u {
	case Nanoseconds:
		return duration(v)
	case Octets:
		return octets(v)
	}
	return countText(v)
}

// octets prints bytes in the largest binary unit that leaves at least one of it.
func octets(v float64) string {
	for _, u := range []struct {
		size float64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if math.Abs(v) >= u.size {
			return strconv.FormatFloat(v/u.size, 'f', decimals(v/u.size), 64) + " " + u.name
		}
	}
	return fmt.Sprintf("%.0f B", v)
}

// decimals leaves three significant digits of a value that is one or more.
func decimals(v float64) int {
	return max(0, 2-int(math.Log10(math.Max(1, math.Abs(v)))))
}

// countText prints a number with commas between thousands.
func countText(v float64) string {
	if v != math.Trunc(v) && math.Abs(v) < 100 {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	text := strconv.FormatFloat(math.Abs(v), 'f', 0, 64)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	if v < 0 {
		return "-" + text
	}
	return text
}

func numberText(s stats.Spread, unit float64, suffix string) string {
	if s.N == 0 {
		return nothing
	}
	return fmt.Sprintf("%.0f%s (%.0f–%.0f)", s.Median/unit, suffix, s.Q1/unit, s.Q3/unit)
}

// duration prints nanoseconds with three significant digits.
func duration(ns float64) string {
	if ns == 0 {
		return "0s"
	}
	if math.Abs(ns) < 100 {
		return strconv.FormatFloat(ns, 'g', 3, 64) + "ns"
	}
	digits := math.Floor(math.Log10(math.Abs(ns))) - 2
	return time.Duration(ns).Round(time.Duration(max(1, math.Pow(10, digits)))).String()
}
