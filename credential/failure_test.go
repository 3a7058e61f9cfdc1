// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestMUST_C7_InvalidateIsCompareAndDelete(t *testing.T) {
	p := &issuer{}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		a, b := get(t, c, keyOf(alice)), get(t, c, keyOf(bob))
		c.Invalidate(keyOf(alice), b.Fingerprint())
		c.Invalidate(keyOf(alice), "")
		c.Invalidate(Key{ID: alice, Provider: "slack"}, a.Fingerprint())
		if get(t, c, keyOf(alice)).Fingerprint() != a.Fingerprint() {
			t.Fatal("another fingerprint dropped the value")
		}
		c.Invalidate(keyOf(alice), a.Fingerprint())
		if get(t, c, keyOf(alice)).Fingerprint() == a.Fingerprint() {
			t.Error("the refused value is still served")
		}
		c.Invalidate(keyOf(alice), a.Fingerprint()) // a late answer about the old value
		if get(t, c, keyOf(bob)).Fingerprint() != b.Fingerprint() || p.count() != 3 {
			t.Errorf("%d fetches, want 3", p.count())
		}
	})
}

// A SaaS that answers 401 to everything, and a caller that asks ten times a second.
func TestMUST_C7_RefusedFreshValuesDoNotBecomeAMintStorm(t *testing.T) {
	p := &issuer{}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		for range 10 * 60 * 10 { // ten minutes
			c.Invalidate(keyOf(alice), get(t, c, keyOf(alice)).Fingerprint())
			time.Sleep(100 * time.Millisecond)
		}
		if n := p.count(); n < 8 || n > 40 {
			t.Errorf("%d mints in ten minutes of refusals", n)
		}
	})
}

func TestMUST_C7_RefusalsLongApartAreEachBelieved(t *testing.T) {
	p := &issuer{}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		for i := range 5 {
			c.Invalidate(keyOf(alice), get(t, c, keyOf(alice)).Fingerprint())
			get(t, c, keyOf(alice))
			if p.count() != i+2 {
				t.Fatalf("refusal %d: %d fetches", i, p.count())
			}
			time.Sleep(10 * time.Minute)
		}
	})
}

func TestMUST_C8_NegativeCacheBacksOff(t *testing.T) {
	p := &issuer{err: &Error{Kind: Unreachable, Err: errors.New("down")}}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		getError(t, c, keyOf(alice), Unreachable)
		e := getError(t, c, keyOf(alice), Backoff)
		if e.RetryAfter < time.Second || e.RetryAfter > foregroundCap || !strings.Contains(e.Error(), "down") {
			t.Errorf("back-off %s: %v", e.RetryAfter, e)
		}
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			_, _ = c.Credential(t.Context(), keyOf(alice), here)
		}
		if n := p.count(); n < 12 || n > 60 {
			t.Errorf("%d fetches in a minute", n)
		}
		p.set(func(p *issuer) { p.err = nil })
		time.Sleep(foregroundCap)
		get(t, c, keyOf(alice))
	})
}

func TestMUST_C8_RefusedIsRememberedLonger(t *testing.T) {
	p := &issuer{err: &Error{Kind: Refused, Err: errors.New("invalid_client")}}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		getError(t, c, keyOf(alice), Refused)
		time.Sleep(29 * time.Second)
		getError(t, c, keyOf(alice), Backoff)
		time.Sleep(31 * time.Second)
		getError(t, c, keyOf(alice), Refused)
	})
}

func TestMUST_C8_RetryAfterIsHonouredAndCapped(t *testing.T) {
	for _, tc := range []struct{ asked, waited time.Duration }{{20 * time.Second, 20 * time.Second}, {time.Hour, retryCap}} {
		p := &issuer{err: &Error{Kind: Unreachable, RetryAfter: tc.asked, Err: errors.New("429")}}
		inBubble(t, p, nil, func(t *testing.T, c *Cache) {
			getError(t, c, keyOf(alice), Unreachable)
			time.Sleep(tc.waited - time.Second)
			getError(t, c, keyOf(alice), Backoff)
			time.Sleep(time.Second)
			getError(t, c, keyOf(alice), Unreachable)
		})
	}
}

func TestMUST_C8_ConfigChangeClearsTheFailure(t *testing.T) {
	p := &issuer{err: &Error{Kind: Refused, Err: errors.New("invalid_client")}}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		getError(t, c, keyOf(alice), Refused)
		next := specWith(t, &issuer{})
		next.Generation = "g2"
		retire := c.Install([]Spec{next})
		k := keyOf(alice)
		k.Generation = "g2"
		get(t, c, k)
		getError(t, c, keyOf(alice), Backoff) // the old one is usable, and as it was
		retire()
		getError(t, c, keyOf(alice), Unconfigured)
	})
}

func TestMUST_C8_BackgroundFailuresBackOffAndTheValueIsServed(t *testing.T) {
	p := &issuer{lifetime: time.Hour}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		first := get(t, c, keyOf(alice))
		p.set(func(p *issuer) { p.err = &Error{Kind: Unreachable, Err: errors.New("down")} })
		time.Sleep(48 * time.Minute)
		for range 600 {
			time.Sleep(time.Second)
			if get(t, c, keyOf(alice)).Fingerprint() != first.Fingerprint() {
				t.Fatal("another value")
			}
		}
		if n := p.count(); n < 10 || n > 60 {
			t.Errorf("%d fetches in ten minutes", n)
		}
	})
}

func TestExpiredIsSaidWhereAValueHasEnded(t *testing.T) {
	p := &issuer{lifetime: 100 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		p.set(func(p *issuer) { p.err = &Error{Kind: Refused, Err: errors.New("access_denied")} })
		time.Sleep(200 * time.Second)
		getError(t, c, keyOf(alice), Refused)
		getError(t, c, keyOf(alice), Expired)
	})
}

func TestBackoffIsJitteredAndBounded(t *testing.T) {
	seen := map[time.Duration]bool{}
	for n := range 70 {
		d := exponential(time.Second, n, time.Minute)
		if d < 0 || d > time.Minute {
			t.Fatalf("failure %d waits %s", n, d)
		}
		seen[d] = true
	}
	if len(seen) < 60 {
		t.Errorf("only %d different waits", len(seen))
	}
}

func TestMUST_C13_MintRateIsBoundPerSpec(t *testing.T) {
	p := &issuer{}
	rate := func(s *Spec) { s.Rate = Rate{PerMinute: 60, Burst: 10} }
	inBubble(t, p, rate, func(t *testing.T, c *Cache) {
		done := make(chan error, 100)
		for i := range 100 {
			k := keyOf(spiffeid.RequireFromPathf(alice.TrustDomain(), "/w/%d", i))
			go func() { _, err := c.Credential(t.Context(), k, here); done <- err }()
		}
		synctest.Wait()
		if p.count() != 10 {
			t.Errorf("burst of %d", p.count())
		}
		time.Sleep(20 * time.Second)
		refused := 0
		for range 100 {
			var e *Error
			if err := <-done; errors.As(err, &e) && e.Kind == Backoff && e.RetryAfter > 0 {
				refused++
			}
		}
		if p.count() != 15 || refused != 85 { // ten at once, five that waited up to 5 s
			t.Errorf("%d mints, %d refused", p.count(), refused)
		}
	})
}

func TestMUST_C13_BackgroundRefreshIsNotInStep(t *testing.T) {
	p := &issuer{lifetime: 1000 * time.Second}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		keys := make([]Key, 50)
		for i := range keys {
			keys[i] = keyOf(spiffeid.RequireFromPathf(alice.TrustDomain(), "/w/%d", i))
			get(t, c, keys[i])
		}
		time.Sleep(time.Second)
		for _, k := range keys {
			get(t, c, k)
		}
		worst, last := 0, p.count()
		for range 850 {
			time.Sleep(time.Second)
			worst, last = max(worst, p.count()-last), p.count()
		}
		if last != 100 || worst > 12 {
			t.Errorf("%d fetches, at most %d in a second", last, worst)
		}
	})
}

// heldElsewhere is what an identity says of a caller whose key egret does not hold.
type heldElsewhere struct{}

func (heldElsewhere) Error() string { return "not held" }
func (heldElsewhere) NotHeld() bool { return true }

// A caller that egret cannot act for must not keep another one of the same identity, which
// it can act for, from its credential.
func TestNotHeldIsHeldAgainstNobodyElse(t *testing.T) {
	p := &issuer{lifetime: time.Hour, err: OfSubject("JWT-SVID", fmt.Errorf("of alice: %w", heldElsewhere{}))}
	inBubble(t, p, nil, func(t *testing.T, c *Cache) {
		getError(t, c, keyOf(alice), Unconfigured)
		p.set(func(p *issuer) { p.err = nil })
		get(t, c, keyOf(alice))
	})
	if e := OfSubject("JWT-SVID", errors.New("agent is away")); e.Kind != Unreachable || NotHeld(e) {
		t.Errorf("%v", e)
	}
}
