// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/egret-proxy/egret/credential"
)

const (
	hour = time.Hour
	day  = 24 * time.Hour
)

// bubble runs f in fake time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

func TestALeaseIsRenewedAheadOfItsEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p)
		if first.Lifetime != hour || first.Values["user"].Reveal() != "u" {
			t.Fatalf("%+v", first)
		}
		for range 5 {
			w.twin.called()
			time.Sleep(45 * time.Minute)
			next := w.get(p)
			if value(next) != value(first) || next.Lifetime != hour {
				t.Errorf("%s, %s: want the same secret for an hour", value(next), next.Lifetime)
			}
			if got := w.twin.called(); !slices.Equal(got, []string{"POST sys/leases/renew"}) {
				t.Errorf("calls %q", got)
			}
		}
		w.wantLive(1, 1)
	})
}

func TestAnotherSecretIsReadWhereARenewalGivesLess(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 100 * time.Minute})
		first := w.get(p)
		time.Sleep(50 * time.Minute) // an hour more would be 110 minutes
		second := w.get(p)
		if value(second) == value(first) || second.Lifetime != hour {
			t.Fatalf("%s, %s", value(second), second.Lifetime)
		}
		w.wantLive(2, 2) // requests may still carry the first
		time.Sleep(grace + time.Second)
		synctest.Wait()
		w.wantLive(1, 1)
	})
}

func TestASecondFetchBeforeTheTimeReadsAnotherSecret(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p) // the destination refuses it, and the Cache has dropped it
		time.Sleep(time.Minute)
		if second := w.get(p); value(second) == value(first) {
			t.Error("the same secret again")
		}
		time.Sleep(grace + time.Second)
		synctest.Wait()
		w.wantLive(1, 1)
	})
}

// A lease hangs on the client token: it must not be counted on for longer.
func TestAClientTokenThatEndsFirst(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 20 * time.Minute, lease: hour, max: 10 * hour})
		first := w.get(p)
		if first.Lifetime != 20*time.Minute {
			t.Fatalf("lifetime %s", first.Lifetime)
		}
		w.twin.called()
		time.Sleep(15 * time.Minute)
		next := w.get(p)
		if got := w.twin.called(); !slices.Equal(got, []string{"POST sys/leases/renew", "POST auth/token/renew-self"}) {
			t.Errorf("calls %q", got)
		}
		if value(next) != value(first) || next.Lifetime != 20*time.Minute {
			t.Errorf("%s, %s", value(next), next.Lifetime)
		}
		time.Sleep(25 * time.Minute) // nobody uses it
		synctest.Wait()
		w.wantLive(0, 0)
	})
}

func TestWhatCannotBeRenewedIsReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 2 * hour, lease: hour, max: hour, fixed: true})
		first := w.get(p)
		time.Sleep(45 * time.Minute)
		if next := w.get(p); value(next) == value(first) || next.Lifetime != hour {
			t.Errorf("%s, %s", value(next), next.Lifetime)
		}
	})
}

// An administrator has revoked it: the answer is 400, and another is read at once.
func TestALeaseThatVaultHasRevoked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p)
		w.twin.set(func() {
			for _, l := range w.twin.leases {
				l.revoked = true
			}
		})
		time.Sleep(45 * time.Minute)
		if next := w.get(p); value(next) == value(first) {
			t.Error("a revoked secret is given again")
		}
	})
}

func TestARenewalThatIsNotHeardIsAnError(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p)
		time.Sleep(45 * time.Minute)
		w.twin.set(func() { w.twin.sealed = true })
		_, err := p.Fetch(t.Context(), key(aliceID), w.alice)
		wantError(t, err, credential.Unreachable, "sealed") // the Cache goes on with what it has
		w.twin.set(func() { w.twin.sealed = false })
		if next := w.get(p); value(next) != value(first) {
			t.Error("the lease was still good")
		}
	})
}

func TestRevokeEndsLeaseAndClientToken(t *testing.T) {
	for name, deny := range map[string][]string{"all": nil, "default policy": {"sys/leases/revoke"}, "no revoke-self": {"auth/token/revoke-self"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour, may: []string{"sys/leases/revoke"}, deny: deny})
				tok := w.get(p)
				w.wantLive(1, 1)
				if err := tok.Revoke(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, leases := w.twin.live(); leases != 0 {
					t.Error("the lease lives")
				}
				w.twin.called()
				if err := tok.Revoke(t.Context()); err != nil || len(w.twin.called()) != 0 {
					t.Errorf("twice: %v, or Vault was asked", err)
				}
				if next := w.get(p); value(next) == value(tok) {
					t.Error("a revoked secret is given again")
				}
			})
		})
	}
}

func TestRevokeThatVaultDoesNotHearIsTriedAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		tok := w.get(p)
		w.twin.set(func() { w.twin.sealed = true })
		wantError(t, tok.Revoke(t.Context()), credential.Unreachable)
		w.twin.set(func() { w.twin.sealed = false })
		time.Sleep(hour + time.Second)
		synctest.Wait()
		w.wantLive(0, 0)
	})
}

// The Cache may give up the value from before a renewal, whose lease lives on.
func TestRevokeOfAnEarlierTokenOfTheSameLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p)
		time.Sleep(45 * time.Minute)
		second := w.get(p)
		if err := first.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantLive(1, 1)
		if err := second.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantLive(0, 0)
	})
}

func TestRevokeWhileItIsRenewed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p)
		time.Sleep(45 * time.Minute)
		w.twin.set(func() { w.twin.takes = 2 * time.Second })
		var second credential.Token
		fetched := make(chan error)
		go func() {
			var err error
			second, err = p.Fetch(t.Context(), key(aliceID), w.alice)
			fetched <- err
		}()
		time.Sleep(time.Second)
		revoked := make(chan error, 1)
		revoked <- first.Revoke(t.Context())
		if err := errors.Join(<-fetched, <-revoked); err != nil {
			t.Fatal(err)
		}
		if value(second) == value(first) {
			t.Error("a revoked secret is given again")
		}
		w.wantLive(1, 1)
	})
}

func TestCloseEndsWhatWasReplacedAndNothingElse(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		w.get(p)
		time.Sleep(time.Minute)
		last := w.get(p)
		w.wantLive(2, 2)
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		w.wantLive(1, 1) // a reload: the Cache still serves it
		if err := last.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantLive(0, 0)
		_ = p.Close()
	})
}

func TestABatchTokenIsNotRevoked(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: hour, lease: hour, max: hour, batch: true, may: []string{"sys/leases/revoke"}})
		tok := w.get(p)
		w.twin.called()
		if err := tok.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		if got := w.twin.called(); !slices.Equal(got, []string{"POST sys/leases/revoke"}) {
			t.Errorf("calls %q", got)
		}
	})
}

func TestACountedTokenIsNotLentOn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: hour, lease: hour, max: hour, uses: 3})
		_, err := p.Fetch(t.Context(), key(aliceID), w.alice)
		wantError(t, err, credential.NotMinted, "token_num_uses")
	})
}

// Traps of PROTOCOLS 3.6: a lease of 0, a duration without a lease (KV version 1 tells
// 32 days), more than the Cache believes.
func TestMUST_C5_LifetimesOfLeases(t *testing.T) {
	for name, tc := range map[string]struct {
		role role
		want time.Duration
		kept bool
	}{
		"no lease":           {role{ttl: hour}, 0, false},
		"duration, no lease": {role{ttl: hour, lease: 32 * day}, 0, false},
		"lease of 0":         {role{ttl: hour, max: hour}, hour, true}, // as long as its client token
		"Vault's default":    {role{ttl: 32 * day, lease: 32 * day, max: 64 * day}, day, true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				p := w.dynamic(tc.role)
				tok := w.get(p)
				if tok.Lifetime != tc.want || (tok.Revoke != nil) != tc.kept {
					t.Errorf("lifetime %s, revocable %t", tok.Lifetime, tok.Revoke != nil)
				}
				if tokens, _ := w.twin.live(); (tokens > 0) != tc.kept {
					t.Errorf("%d client tokens are kept", tokens)
				}
			})
		})
	}
}

func TestMUST_C3_EachWorkloadHasItsOwnLease(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		first := w.get(p)
		_, err := p.Fetch(t.Context(), key(bobID), w.bob)
		wantError(t, err, credential.Refused, "bound_subject")
		r := w.twin.roles["alice"]
		r.subject = bobID
		w.twin.set(func() { w.twin.roles["alice"] = r })
		second, err := p.Fetch(t.Context(), key(bobID), w.bob)
		if err != nil || value(second) == value(first) {
			t.Fatalf("%v, %q", err, value(second))
		}
		time.Sleep(45 * time.Minute)
		again, err := p.Fetch(t.Context(), key(bobID), w.bob)
		if err != nil || value(again) != value(second) {
			t.Errorf("%v, %q", err, value(again))
		}
	})
}

func TestTheClientTokenItself(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.twin.roles["alice"] = role{subject: aliceID, audience: address, ttl: hour}
		p := w.provider(func(c *Config) { c.ClientToken = true })
		first := w.get(p)
		if !strings.HasPrefix(value(first), "hvs.") || first.Lifetime != hour {
			t.Fatalf("%s, %s", value(first), first.Lifetime)
		}
		time.Sleep(45 * time.Minute)
		w.twin.called()
		second := w.get(p)
		if got := w.twin.called(); value(second) != value(first) || !slices.Equal(got, []string{"POST auth/token/renew-self"}) {
			t.Errorf("%s after calls %q", value(second), got)
		}
		if err := second.Revoke(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantLive(0, 0)
	})
}

func TestMUST_C13_LoansAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		for range maxLoans {
			p.book.all[&loan{}] = struct{}{}
		}
		_, err := p.Fetch(t.Context(), key(aliceID), w.alice)
		wantError(t, err, credential.Backoff, "20000")
		if got := w.twin.called(); len(got) != 0 {
			t.Errorf("Vault was asked: %q", got)
		}
		clear(p.book.all)
	})
}

// A day behind the real Cache, with a Vault that goes away for a while: never a value
// that has ended, one lease at a time, and nothing left at the end.
func TestThroughTheCache(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 5 * hour})
		in, err := credential.NewInjection(credential.InjectionConfig{Header: "X-Key", Value: "{token}"})
		if err != nil {
			t.Fatal(err)
		}
		c, err := credential.NewCache(credential.CacheOptions{})
		if err != nil {
			t.Fatal(err)
		}
		c.Install([]credential.Spec{{Name: "db", Generation: "1", Provider: p, Inject: []credential.Injection{in}}})
		seen := map[string]bool{}
		for minute := range 24 * 60 {
			w.twin.set(func() { w.twin.sealed = minute > 600 && minute < 610 })
			v, err := c.Credential(t.Context(), key(aliceID), w.alice)
			if err != nil {
				t.Fatalf("minute %d: %v", minute, err)
			}
			seen[v.Fingerprint()] = true
			if _, leases := w.twin.live(); leases < 1 || leases > 2 {
				t.Fatalf("minute %d: %d leases are alive", minute, leases)
			}
			time.Sleep(time.Minute)
		}
		if len(seen) < 5 || len(seen) > 7 {
			t.Errorf("%d secrets in a day, want one for every 4 to 5 hours", len(seen))
		}
		c.Close()
		synctest.Wait()
		w.wantLive(0, 0)
	})
}

func TestRevokeWithoutAContextThatLives(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		p := w.dynamic(role{ttl: 32 * day, lease: hour, max: 10 * hour})
		tok := w.get(p)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, tok.Revoke(ctx), credential.Unreachable)
	})
}
