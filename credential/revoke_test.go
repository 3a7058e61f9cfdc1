// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// lender is an issuer that can end what it gave.
type lender struct {
	issuer
	mu     sync.Mutex
	ended  []string
	fails  error
	takes  time.Duration
	panics bool
}

func (l *lender) Fetch(ctx context.Context, k Key, s Subject) (Token, error) {
	tok, err := l.issuer.Fetch(ctx, k, s)
	name := tok.Values["token"].Reveal()
	tok.Revoke = func(ctx context.Context) error {
		if l.panics {
			panic("tok-secret")
		}
		if _, ok := ctx.Deadline(); !ok {
			return errors.New("no deadline")
		}
		if !sleep(ctx, l.takes) {
			return ctx.Err()
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = append(l.ended, name)
		return l.fails
	}
	return tok, err
}

func (l *lender) gone() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string{}, l.ended...)
}

func lending(t *testing.T, l *lender, o CacheOptions, f func(t *testing.T, c *Cache)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		if l.lifetime == 0 {
			l.lifetime = time.Hour
		}
		c := newCache(t, o, specWith(t, l))
		defer c.Close()
		f(t, c)
	})
}

func of(id spiffeid.ID) func(Key) bool { return func(k Key) bool { return k.ID == id } }

func TestRevokeEndsWhatItNames(t *testing.T) {
	l := &lender{}
	lending(t, l, CacheOptions{}, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		before := get(t, c, keyOf(bob)).Fingerprint()
		if got, want := c.Revoke(t.Context(), of(alice)), (Ended{Dropped: 1, Revoked: 1}); got != want {
			t.Errorf("Revoke = %+v, want %+v", got, want)
		}
		if got := l.gone(); len(got) != 1 || !strings.HasSuffix(got[0], "/alice") {
			t.Errorf("ended %q", got)
		}
		if get(t, c, keyOf(bob)).Fingerprint() != before {
			t.Error("bob's was dropped too")
		}
		if got := c.Revoke(t.Context(), of(alice)); got != (Ended{}) {
			t.Errorf("a second time: %+v", got)
		}
	})
}

// A fetch under way must not bring back what was revoked, and its value is ended too.
func TestRevokeReachesAFetchUnderWay(t *testing.T) {
	l := &lender{issuer: issuer{takes: 3 * time.Second}}
	lending(t, l, CacheOptions{}, func(t *testing.T, c *Cache) {
		failed := make(chan error)
		go func() {
			_, err := c.Credential(t.Context(), keyOf(alice), here)
			failed <- err
		}()
		synctest.Wait()
		if got := c.Revoke(t.Context(), of(alice)); got.Dropped != 1 {
			t.Errorf("Revoke = %+v", got)
		}
		var e *Error
		if err := <-failed; !errors.As(err, &e) || !errors.Is(e.Err, errRevoked) {
			t.Errorf("the caller got %v", err)
		}
		synctest.Wait()
		if len(l.gone()) != 1 {
			t.Errorf("ended %q", l.gone())
		}
	})
}

func TestRevokeCountsWhatCannotBeEnded(t *testing.T) {
	for name, tc := range map[string]struct {
		l    *lender
		want Ended
	}{
		"refused":  {&lender{fails: errors.New("no")}, Ended{Dropped: 1, Failed: 1}},
		"too slow": {&lender{takes: time.Minute}, Ended{Dropped: 1, Failed: 1}},
		"panics":   {&lender{panics: true}, Ended{Dropped: 1, Failed: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			lending(t, tc.l, CacheOptions{}, func(t *testing.T, c *Cache) {
				get(t, c, keyOf(alice))
				if got := c.Revoke(t.Context(), of(alice)); got != tc.want {
					t.Errorf("Revoke = %+v, want %+v", got, tc.want)
				}
			})
		})
	}
	inBubble(t, &issuer{lifetime: time.Hour}, nil, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		if got, want := c.Revoke(t.Context(), of(alice)), (Ended{Dropped: 1, Lasting: 1}); got != want {
			t.Errorf("Revoke = %+v, want %+v", got, want)
		}
	})
}

// A shutdown ends everything, and before the providers are closed.
func TestCloseEndsValues(t *testing.T) {
	l := &lender{}
	synctest.Test(t, func(t *testing.T) {
		l.lifetime = time.Hour
		c := newCache(t, CacheOptions{}, specWith(t, l))
		get(t, c, keyOf(alice))
		get(t, c, keyOf(bob))
		c.Close()
		if len(l.gone()) != 2 || l.closed != 1 {
			t.Errorf("ended %q, closed %d times", l.gone(), l.closed)
		}
	})
}

// What a changed configuration replaces is ended when it is retired, not before: requests
// may still carry it.
func TestRetireEndsValues(t *testing.T) {
	l := &lender{}
	lending(t, l, CacheOptions{}, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		next := specWith(t, &issuer{lifetime: time.Hour})
		next.Generation = "g2"
		retire := c.Install([]Spec{next})
		if len(l.gone()) != 0 {
			t.Error("ended while it may be used")
		}
		retire()
		if len(l.gone()) != 1 {
			t.Errorf("ended %q", l.gone())
		}
	})
}

// A refresh replaces a value without ending it: both may share a lease.
func TestRefreshEndsNothing(t *testing.T) {
	l := &lender{}
	lending(t, l, CacheOptions{}, func(t *testing.T, c *Cache) {
		first := get(t, c, keyOf(alice)).Fingerprint()
		time.Sleep(50 * time.Minute)
		get(t, c, keyOf(alice))
		time.Sleep(2 * time.Second)
		if get(t, c, keyOf(alice)).Fingerprint() == first || len(l.gone()) != 0 {
			t.Errorf("no refresh, or ended %q", l.gone())
		}
	})
}

// An evicted value is ended after the time in which a request may still carry it.
func TestEvictionEndsValues(t *testing.T) {
	l := &lender{}
	reg := prometheus.NewRegistry()
	lending(t, l, CacheOptions{PerWorkload: 1, Registerer: reg}, func(t *testing.T, c *Cache) {
		a, b := keyOf(alice), keyOf(alice)
		b.Scopes = "other"
		get(t, c, a)
		get(t, c, b)
		time.Sleep(endGrace - 2*time.Second)
		if len(l.gone()) != 0 {
			t.Error("ended while a request may carry it")
		}
		time.Sleep(4 * time.Second)
		if len(l.gone()) != 1 {
			t.Errorf("ended %q", l.gone())
		}
		if n := testutil.ToFloat64(c.metrics.ended.WithLabelValues("slack", "ok")); n != 1 {
			t.Errorf("counted %v", n)
		}
	})
	if len(l.gone()) != 2 { // the other one at the end
		t.Errorf("ended %q", l.gone())
	}
}

// A flood of keys cannot make a queue without end.
func TestEvictionQueueIsBounded(t *testing.T) {
	l := &lender{}
	lending(t, l, CacheOptions{PerWorkload: 1}, func(t *testing.T, c *Cache) {
		c.mu.Lock()
		for i := range endQueue + 10 {
			c.evicted(given{keyOf(alice), &Live{ending: &ending{call: func(context.Context) error { return fmt.Errorf("%d", i) }}}})
		}
		n := len(c.waiting)
		c.mu.Unlock()
		if n != endQueue {
			t.Errorf("%d wait", n)
		}
	})
}

// What the issuer gave and no request can use is ended too.
func TestUnusableValueIsEnded(t *testing.T) {
	l := &lender{}
	l.value = func(Key, int) string { return "line\nbreak" }
	lending(t, l, CacheOptions{}, func(t *testing.T, c *Cache) {
		getError(t, c, keyOf(alice), NotMinted)
		time.Sleep(endGrace + 2*time.Second)
		if len(l.gone()) != 1 {
			t.Errorf("ended %q", l.gone())
		}
	})
}

// TestMUST_C9_RevocationTellsNothing: neither a panic's value nor a token reaches the log.
func TestMUST_C9_RevocationTellsNothing(t *testing.T) {
	var log strings.Builder
	l := &lender{panics: true}
	lending(t, l, CacheOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		c.Revoke(t.Context(), of(alice))
	})
	if got := log.String(); !strings.Contains(got, "panicked") || strings.Contains(got, "tok-") {
		t.Errorf("log: %s", got)
	}
}
