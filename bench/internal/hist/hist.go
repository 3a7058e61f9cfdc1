// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package hist counts durations in buckets whose width grows with the value, so that
// every quantile is known to better than one per cent from nanoseconds to hours, in a
// fixed amount of memory and without sampling.
package hist

import (
	"math/bits"
	"time"
)

const (
	subBits = 7 // 128 buckets for each power of two: an error under 1/128
	sub     = 1 << subBits
	buckets = (64 - subBits) * sub
)

// Histogram counts durations. The zero value is empty and ready. It is for one
// goroutine at a time; merge those of several with Add.
type Histogram struct {
	counts [buckets]uint32
	n      uint64
	sum    time.Duration
	max    time.Duration
}

// Record counts one duration; a negative one counts as zero.
func (h *Histogram) Record(d time.Duration) {
	d = max(d, 0)
	h.counts[index(uint64(d))]++
	h.n++
	h.sum += d
	h.max = max(h.max, d)
}

// index is the bucket of v. Values under 2*sub have buckets of their own.
func index(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// upper is the largest value of a bucket.
func upper(i int) uint64 {
	shift := max(i>>subBits-1, 0)
	return uint64(i-shift<<subBits+1)<<shift - 1
}

// Add counts everything that o has counted.
func (h *Histogram) Add(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() uint64 { return h.n }

// Quantile returns a duration that at least the share q of those recorded do not
// exceed, at most one bucket too high; 0 where nothing was recorded.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank, seen := uint64(q*float64(h.n-1)), uint64(0)
	for i, c := range h.counts {
		if seen += uint64(c); seen > rank {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// Summary is what is kept of a Histogram. Durations are nanoseconds in JSON.
type Summary struct {
	Count uint64        `json:"count"`
	Mean  time.Duration `json:"mean_ns"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

// Summary sums up what was recorded.
func (h *Histogram) Summary() Summary {
	s := Summary{
		Count: h.n, P50: h.Quantile(0.5), P90: h.Quantile(0.9), P99: h.Quantile(0.99), P999: h.Quantile(0.999), Max: h.max,
	}
	if h.n > 0 {
		s.Mean = h.sum / time.Duration(h.n)
	}
	return s
}
