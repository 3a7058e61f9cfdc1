// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		p := &issuer{lifetime: 100 * time.Second}
		c := newCache(t, CacheOptions{Registerer: reg}, specWith(t, p))
		get(t, c, keyOf(alice))
		time.Sleep(30 * time.Second)
		get(t, c, keyOf(bob))
		p.set(func(p *issuer) { p.err = &Error{Kind: Refused, Err: errors.New("no")} })
		time.Sleep(61 * time.Second) // alice: 91, past the hard mark
		get(t, c, keyOf(alice))
		synctest.Wait()
		err := testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP egret_credential_expiry_seconds Seconds until the first cached value of the credential ends.
# TYPE egret_credential_expiry_seconds gauge
egret_credential_expiry_seconds{provider="slack"} 9
# HELP egret_credential_flights Fetches in progress.
# TYPE egret_credential_flights gauge
egret_credential_flights 0
# HELP egret_credential_stale_served_total Values served near their end because a refresh did not come in time. Never after their end.
# TYPE egret_credential_stale_served_total counter
egret_credential_stale_served_total 1
`), "egret_credential_expiry_seconds", "egret_credential_flights", "egret_credential_stale_served_total")
		if err != nil {
			t.Error(err)
		}
		if n := testutil.ToFloat64(c.metrics.fetches.WithLabelValues("slack", "ok", "")); n != 2 {
			t.Errorf("%v fetches went well", n)
		}
		if n := testutil.ToFloat64(c.metrics.fetches.WithLabelValues("slack", "error", "provider_refused")); n != 1 {
			t.Errorf("%v fetches were refused", n)
		}
		if n := testutil.CollectAndCount(c.metrics.seconds); n != 1 {
			t.Errorf("%d histograms", n)
		}
		c.Close()
		if fams, err := reg.Gather(); err != nil || len(fams) != 0 {
			t.Errorf("after Close: %d families, %v", len(fams), err)
		}
	})
}

func TestTwoCachesOnOneRegistryIsAnError(t *testing.T) {
	reg := prometheus.NewRegistry()
	c := newCache(t, CacheOptions{Registerer: reg})
	defer c.Close()
	if _, err := NewCache(CacheOptions{Registerer: reg}); err == nil {
		t.Error("registered twice")
	}
}

func TestSnapshot(t *testing.T) {
	p := &issuer{lifetime: 100 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		v := get(t, c, keyOf(bob))
		p.set(func(p *issuer) { p.err = &Error{Kind: Refused, Err: errors.New("no")} })
		getError(t, c, keyOf(alice), Refused)
		used := time.Now()
		time.Sleep(10 * time.Second)
		want := []Entry{
			{Key: keyOf(alice), Provider: "slack", State: "backoff", LastError: "provider_refused", LastUsed: used},
			{Key: keyOf(bob), Provider: "slack", State: "fresh", Fingerprint: v.Fingerprint(), Age: 10 * time.Second, Remaining: 85 * time.Second, LastUsed: used},
		}
		got := c.Snapshot()
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b Key) bool { return a == b })); d != "" {
			t.Error(d)
		}
	})
}

func TestServingAFreshValueAllocatesNothing(t *testing.T) {
	c := newCache(t, CacheOptions{}, specWith(t, &issuer{lifetime: time.Hour}))
	defer c.Close()
	k, ctx := keyOf(alice), t.Context()
	get(t, c, k)
	var s Subject = here
	n := testing.AllocsPerRun(10_000, func() {
		if _, err := c.Credential(ctx, k, s); err != nil {
			t.Fatal(err)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Held serves what Credential would serve without waiting, and nothing else.
func TestHeldIsAFreshValueOnly(t *testing.T) {
	c := newCache(t, CacheOptions{}, specWith(t, &issuer{lifetime: time.Hour}))
	defer c.Close()
	k := keyOf(alice)
	if v := c.Held(k, here); v != nil {
		t.Errorf("before the first fetch: %v", v)
	}
	v := get(t, c, k)
	if held := c.Held(k, here); held != v {
		t.Errorf("got %v, want %v", held, v)
	}
	c.Invalidate(k, v.Fingerprint())
	if v := c.Held(k, here); v != nil {
		t.Errorf("after it was refused: %v", v)
	}
}

func BenchmarkFresh(b *testing.B) {
	c := newCache(b, CacheOptions{}, specWith(b, &issuer{lifetime: time.Hour}))
	defer c.Close()
	k, ctx := keyOf(alice), b.Context()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Credential(ctx, k, here); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkApply(b *testing.B) {
	in := bearer(b)
	l, err := New(tokenOf("xoxb-1"), in, time.Time{})
	if err != nil {
		b.Fatal(err)
	}
	r, _ := apply(b, InjectionConfig{Header: "X-A", Value: "{token}"}, "x", "", nil)
	r.Header.Set("Accept", "*/*")
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Apply(r); err != nil {
			b.Fatal(err)
		}
	}
}
