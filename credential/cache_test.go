// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestMUST_C1_NoCredentialIsAnErrorNeverAStandIn(t *testing.T) {
	p := &issuer{err: &Error{Kind: Refused, Err: errors.New("no")}}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		getError(t, c, keyOf(alice), Refused)
		getError(t, c, Key{ID: alice, Provider: "slack", Generation: "other"}, Unconfigured)
		getError(t, c, Key{ID: alice, Provider: "other", Generation: "g1"}, Unconfigured)
		getError(t, c, Key{}, Unconfigured)
	})
}

func TestMUST_C1_ClosedCacheServesNothing(t *testing.T) {
	c := newCache(t, CacheOptions{}, specWith(t, &issuer{}))
	get(t, c, keyOf(alice))
	c.Close()
	c.Close()
	getError(t, c, keyOf(alice), Unconfigured)
}

func TestMUST_C1_EmptyTokenIsNotMinted(t *testing.T) {
	p := &issuer{value: func(Key, int) string { return "" }}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) { getError(t, c, keyOf(alice), NotMinted) })
}

// A key that is joined with a separator would make these pairs one.
func TestMUST_C2_AdversarialSeparatorsDoNotCollide(t *testing.T) {
	id := spiffeid.RequireFromString("spiffe://acme.example/a")
	keys := []Key{
		{ID: id, Provider: "p", Generation: "g", Audience: "x", Scopes: "y"},
		{ID: id, Provider: "p", Generation: "g", Audience: "x|y"},
		{ID: id, Provider: "p", Generation: "g", Audience: "x\x00y"},
		{ID: id, Provider: "p", Generation: "g", Scopes: "x y"},
		{ID: id, Provider: "p", Generation: "g", Resource: "x y"},
		{ID: id, Provider: "p", Generation: "g", Audience: "x:", Scopes: ":y"},
		{ID: id, Provider: "p", Generation: "g", Audience: "x", Scopes: "::y"},
		{ID: spiffeid.RequireFromString("spiffe://acme.example/a/p"), Provider: "p", Generation: "g"},
		{ID: id, Provider: "p/p", Generation: "g"},
		{ID: id, Provider: "p", Generation: "p/g"},
		{ID: id, Provider: "p|g", Generation: "g"},
	}
	p := &issuer{}
	var specs []Spec
	for _, k := range keys {
		s := specWith(t, p)
		s.Name, s.Generation = k.Provider, k.Generation
		specs = append(specs, s)
	}
	c := newCache(t, CacheOptions{}, specs...)
	defer c.Close()
	seen := map[string]Key{}
	for range 2 {
		for _, k := range keys {
			seen[get(t, c, k).Fingerprint()] = k
		}
	}
	if p.count() != len(keys) || len(seen) != len(keys) {
		t.Errorf("%d fetches and %d values for %d keys", p.count(), len(seen), len(keys))
	}
}

func TestMUST_C3_ValueOfOneWorkloadIsNotServedToAnother(t *testing.T) {
	p := &issuer{}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		a, b := get(t, c, keyOf(alice)), get(t, c, keyOf(bob))
		if a.Fingerprint() == b.Fingerprint() || p.count() != 2 {
			t.Errorf("alice %s, bob %s after %d fetches", a.Fingerprint(), b.Fingerprint(), p.count())
		}
		getError(t, c, keyOf(spiffeid.ID{}), Unconfigured)
	})
}

func TestMUST_C3_SharedIsOneValueGotWithoutTheCallersIdentity(t *testing.T) {
	p, self := &issuer{}, &person{"egret"}
	s := specWith(t, p)
	s.Shared = true
	c := newCache(t, CacheOptions{Self: func() Subject { return self }}, s)
	defer c.Close()
	if get(t, c, keyOf(alice)).Fingerprint() != get(t, c, keyOf(bob)).Fingerprint() || get(t, c, keyOf(spiffeid.ID{})) == nil {
		t.Error("shared value differs")
	}
	if p.count() != 1 || p.subjects[0] != Subject(self) {
		t.Errorf("%d fetches, subject %v; want 1 with egret's own", p.count(), p.subjects[0])
	}
	c.Invalidate(keyOf(bob), get(t, c, keyOf(alice)).Fingerprint())
	get(t, c, keyOf(alice))
	if p.count() != 2 {
		t.Error("Invalidate did not find the shared value")
	}
}

func TestAsSelfUsesEgretsIdentityPerWorkload(t *testing.T) {
	p, self := &issuer{}, &person{"egret"}
	s := specWith(t, p)
	s.AsSelf = true
	c := newCache(t, CacheOptions{Self: func() Subject { return self }}, s)
	defer c.Close()
	get(t, c, keyOf(alice))
	get(t, c, keyOf(bob))
	if p.count() != 2 || p.subjects[0] != Subject(self) || p.subjects[1] != Subject(self) {
		t.Errorf("%d fetches with %v", p.count(), p.subjects)
	}
}

func TestMUST_C4_OneFlightForManyCallers(t *testing.T) {
	p := &issuer{takes: time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { get(t, c, keyOf(alice)) })
		}
		wg.Wait()
		if p.count() != 1 {
			t.Errorf("%d fetches", p.count())
		}
	})
}

func TestMUST_C4_CallerMayLeaveAndTheFlightGoesOn(t *testing.T) {
	p := &issuer{takes: 3 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := c.Credential(ctx, keyOf(alice), here)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("err %v after %s", err, time.Since(start))
		}
		time.Sleep(3 * time.Second)
		get(t, c, keyOf(alice))
		if p.count() != 1 {
			t.Errorf("%d fetches: the flight ended with its caller", p.count())
		}
	})
}

func TestMUST_C4_FlightHasItsOwnDeadline(t *testing.T) {
	p := &issuer{takes: time.Hour}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		start := time.Now()
		p.set(func(p *issuer) {
			p.act = func(ctx context.Context) {
				if end, ok := ctx.Deadline(); !ok || end.Sub(start) != flightTime {
					t.Errorf("the flight may take until %s", end)
				}
			}
		})
		getError(t, c, keyOf(alice), Unreachable)
		if d := time.Since(start); d != flightTime {
			t.Errorf("failed after %s", d)
		}
	})
}

// The four stretches of a life of 1000 s: fresh, soft (700-800), hard (970), last (995).
func TestMUST_C4_RefreshRule(t *testing.T) {
	p := &issuer{lifetime: 1000 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		first := get(t, c, keyOf(alice)).Fingerprint()
		at := func(s int) { time.Sleep(time.Duration(s) * time.Second); synctest.Wait() }
		at(699)
		if get(t, c, keyOf(alice)).Fingerprint() != first || p.count() != 1 {
			t.Fatal("asked before the soft mark")
		}
		p.set(func(p *issuer) { p.err = &Error{Kind: Unreachable, Err: errors.New("down")} })
		at(102) // 801: the refresher has tried behind the callers' backs
		if get(t, c, keyOf(alice)).Fingerprint() != first || p.count() < 2 {
			t.Fatalf("after the soft mark: %d fetches", p.count())
		}
		p.set(func(p *issuer) { p.takes = 4 * time.Second })
		at(980 - 801)
		start := time.Now()
		if get(t, c, keyOf(alice)).Fingerprint() != first || time.Since(start) > hardWait {
			t.Fatalf("between hard and end: waited %s", time.Since(start))
		}
		time.Sleep(994*time.Second + 900*time.Millisecond - 980*time.Second - time.Since(start))
		start = time.Now()
		v, err := c.Credential(t.Context(), keyOf(alice), here)
		if age := 994900*time.Millisecond + time.Since(start); err == nil && age >= 995*time.Second {
			t.Fatalf("served %s at the age of %s", v, age)
		}
		time.Sleep(10 * time.Second)
		if _, err := c.Credential(t.Context(), keyOf(alice), here); err == nil {
			t.Fatal("served after its end")
		}
	})
}

func TestMUST_C4_ValueThatEndsBeforeItArrivesIsNotServed(t *testing.T) {
	p := &issuer{lifetime: 10 * time.Second, takes: 6 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) { getError(t, c, keyOf(alice), Expired) })
}

func TestMUST_C4_SoftMarkIsSpread(t *testing.T) {
	lo, hi := time.Hour, time.Duration(0)
	for range 500 {
		l, _ := newLife(time.Now(), 1000*time.Second, 0)
		lo, hi = min(lo, l.soft), max(hi, l.soft)
		if l.hard != 970*time.Second || l.last != 995*time.Second {
			t.Fatalf("marks %+v", l)
		}
	}
	if lo < 700*time.Second || hi > 800*time.Second || hi-lo < 80*time.Second {
		t.Errorf("soft marks lie between %s and %s", lo, hi)
	}
	if l, _ := newLife(time.Now(), 100*time.Second, 0); l.hard != 90*time.Second {
		t.Errorf("hard mark of 100s is %s, want a tenth before the end", l.hard)
	}
}

func TestMUST_C4_HardWaitGetsTheNewValue(t *testing.T) {
	p := &issuer{lifetime: 1000 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		first := get(t, c, keyOf(alice)).Fingerprint()
		p.set(func(p *issuer) { p.takes = 500 * time.Millisecond })
		c.mu.Lock()
		c.store.entries[keyOf(alice)].used.Store(0) // unused: the refresher leaves it alone
		c.mu.Unlock()
		time.Sleep(980 * time.Second)
		if get(t, c, keyOf(alice)).Fingerprint() == first {
			t.Error("the flight was not waited for")
		}
	})
}

func TestMUST_C4_RefreshedAheadWithoutARequest(t *testing.T) {
	p := &issuer{lifetime: 100 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		time.Sleep(time.Second)
		get(t, c, keyOf(alice)) // in use
		time.Sleep(90 * time.Second)
		if p.count() != 2 {
			t.Errorf("%d fetches", p.count())
		}
		time.Sleep(time.Hour) // nobody used the second one: no third
		if p.count() != 2 {
			t.Errorf("%d fetches of an unused value", p.count())
		}
		runtime.KeepAlive(here)
	})
}

func TestMUST_C5_AbsurdLifetimesBecomeTheTTL(t *testing.T) {
	for _, life := range []time.Duration{0, -1, -time.Hour, maxLifetime + 1, 1 << 62} {
		p := &issuer{lifetime: life}
		inBubble(t, p, func(s *Spec) { s.TTL = 100 * time.Second }, func(t *testing.T, c *Cache) {
			v := get(t, c, keyOf(alice))
			if !v.Expires().IsZero() {
				t.Errorf("lifetime %s: Expires %s, want zero: not told", life, v.Expires())
			}
			time.Sleep(200 * time.Second)
			if w := get(t, c, keyOf(alice)); w.Fingerprint() == v.Fingerprint() {
				t.Errorf("lifetime %s: served for ever", life)
			}
		})
	}
}

func TestMUST_C5_NoTTLIsAnHourNotForEver(t *testing.T) {
	l, told := newLife(time.Now(), 0, 0)
	if told || l.length != defaultTTL {
		t.Errorf("life %+v, told %v", l, told)
	}
}

func TestMUST_C5_LifeCountsFromTheRequestNotTheAnswer(t *testing.T) {
	p := &issuer{lifetime: 60 * time.Second, takes: 8 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		start := time.Now()
		if got := get(t, c, keyOf(alice)).Expires().Sub(start); got != 60*time.Second {
			t.Errorf("expires %s after the request was sent", got)
		}
	})
}

func TestMUST_C5_ClockSetForwardEndsTheLife(t *testing.T) {
	sent := time.Now()
	l, _ := newLife(sent, time.Hour, 0)
	woken := sent.Add(2 * time.Hour).Round(0) // asleep: the wall clock went on, the monotonic one did not
	if l.phase(woken) != phaseExpired {
		t.Error("a value outlived the sleep of the machine")
	}
	if l.phase(sent.Add(2*time.Hour)) != phaseExpired || l.phase(sent) != phaseFresh {
		t.Error("monotonic time does not count")
	}
}

func TestMUST_C5_TooShortALifeIsNotMinted(t *testing.T) {
	p := &issuer{lifetime: 5 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) { getError(t, c, keyOf(alice), NotMinted) })
}

func TestPanicInProviderIsAnErrorWithoutItsValue(t *testing.T) {
	for name, act := range map[string]func(context.Context){
		"panic":  func(context.Context) { panic("xoxb-secret") },
		"goexit": func(context.Context) { runtime.Goexit() },
	} {
		p := &issuer{act: act}
		inBubble(t, p, nil, func(t *testing.T, c *Cache) {
			_, err := c.Credential(t.Context(), keyOf(alice), here)
			var e *Error
			if !errors.As(err, &e) || strings.Contains(err.Error(), "xoxb") {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestForeignErrorCountsAsUnreachable(t *testing.T) {
	var none *Error
	for _, err := range []error{errors.New("odd"), none} {
		p := &issuer{err: err}
		inBubble(t, p, nil, func(t *testing.T, c *Cache) { getError(t, c, keyOf(alice), Unreachable) })
	}
}

func TestWeakSubjectDoesNotKeepItsConnection(t *testing.T) {
	s := &person{"goes"}
	w := weaken(s)
	if got := w.subject(); got != Subject(s) {
		t.Fatalf("subject = %v", got)
	}
	runtime.KeepAlive(s)
	s = nil
	for range 5 {
		runtime.GC()
	}
	if got := w.subject(); got != nil {
		t.Errorf("subject is alive: %v", got)
	}
	if weaken(nil).subject() != nil || weaken((*person)(nil)).subject() != nil {
		t.Error("a subject out of nothing")
	}
}

func TestNoBackgroundRefreshWithoutALiveCaller(t *testing.T) {
	p := &issuer{lifetime: 100 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		s := &person{"gone"}
		for range 2 {
			if _, err := c.Credential(t.Context(), keyOf(alice), s); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
		}
		runtime.KeepAlive(s)
		s = nil
		p.set(func(p *issuer) { p.subjects = nil })
		for range 5 {
			runtime.GC()
		}
		time.Sleep(90 * time.Second)
		if p.count() != 1 {
			t.Errorf("%d fetches for a caller that is gone", p.count())
		}
	})
}
