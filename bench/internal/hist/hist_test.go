// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package hist

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestBucketsAreGapless(t *testing.T) {
	for i := 1; i < buckets-1; i++ {
		if got := index(upper(i)); got != i {
			t.Fatalf("the largest value %d of bucket %d falls into bucket %d", upper(i), i, got)
		}
		if got := index(upper(i) + 1); got != i+1 {
			t.Fatalf("%d, one over bucket %d, falls into bucket %d", upper(i)+1, i, got)
		}
	}
	if got := index(math.MaxInt64); got >= buckets {
		t.Fatalf("the largest duration falls into bucket %d of %d", got, buckets)
	}
}

func TestQuantilesAreWithinOnePerCent(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var h, other Histogram
	values := make([]time.Duration, 0, 20000)
	for i := range 20000 {
		d := time.Duration(math.Exp(rnd.NormFloat64()*2) * float64(time.Millisecond))
		values = append(values, d)
		if i%2 == 0 {
			h.Record(d)
		} else {
			other.Record(d)
		}
	}
	h.Add(&other)
	slices.Sort(values)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := values[int(q*float64(len(values)-1))]
		if got := h.Quantile(q); math.Abs(float64(got-want)) > float64(want)/100 {
			t.Errorf("quantile %v is %v, want %v within 1%%", q, got, want)
		}
	}
	if s := h.Summary(); s.Count != 20000 || s.Max != values[len(values)-1] {
		t.Errorf("summary %+v, want 20000 values and the greatest %v", s, values[len(values)-1])
	}
}

func TestEmptyAndNegative(t *testing.T) {
	var h Histogram
	if s := h.Summary(); s != (Summary{}) {
		t.Errorf("an empty histogram says %+v", s)
	}
	h.Record(-time.Second)
	if s := h.Summary(); s.Count != 1 || s.Max != 0 || s.P50 != 0 {
		t.Errorf("a negative duration gives %+v, want one of 0", s)
	}
}
