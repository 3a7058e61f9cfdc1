// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errPower = errors.New("the power is gone")

// world is an issuer and a store, in which a process can die at every step.
type world struct {
	mu      sync.Mutex
	state   State
	current string // refresh token of the issuer
	access  string
	ends    time.Time
	used    map[string]int
	revoked bool // a refresh token was used again
	n       int

	step  int // steps so far
	kill  int // the step at which the process dies; 0: never
	after bool
	dead  bool
	asked []State // what was stored when the issuer was asked
}

func newWorld() *world {
	return &world{state: State{Refresh: secret.New("r0")}, current: "r0", used: map[string]int{}}
}

// do is one step of a process, which may die before or after it.
func (w *world) do(what func()) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.dead {
		return errPower
	}
	w.step++
	if w.step == w.kill && !w.after {
		w.dead = true
		return errPower
	}
	what()
	if w.step == w.kill {
		w.dead = true
		return errPower
	}
	return nil
}

func (w *world) Load(context.Context) (s State, err error) {
	err = w.do(func() { s = w.state })
	return s, err
}

func (w *world) Save(_ context.Context, s State) error {
	return w.do(func() { w.state = s })
}

func (w *world) Acquire(context.Context) (func(), error) {
	return func() {}, w.do(func() {})
}

func (w *world) ask(_ context.Context, refresh secret.Secret) (g Grant, err error) {
	var refused error
	err = w.do(func() {
		w.asked = append(w.asked, w.state)
		if w.used[refresh.Reveal()]++; refresh.Reveal() != w.current || w.revoked {
			w.revoked, w.access = true, ""
			refused = Spent(&credential.Error{Kind: credential.Refused, Err: errors.New("invalid_grant")})
			return
		}
		w.n++
		w.current, w.access, w.ends = fmt.Sprint("r", w.n), fmt.Sprint("a", w.n), time.Now().Add(time.Hour)
		g = Grant{Access: secret.New(w.access), Refresh: secret.New(w.current), Lifetime: time.Hour}
	})
	if err != nil {
		return Grant{}, err
	}
	return g, refused
}

func (w *world) rotor(t *testing.T, log *bytes.Buffer, timing Timing) *Rotor {
	t.Helper()
	w.mu.Lock()
	w.dead, w.kill, w.step = false, 0, 0
	w.mu.Unlock()
	r, err := New(Options{Store: w, Lease: w, Ask: w.ask, Timing: timing, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) accepts(tok credential.Token) bool {
	return tok.Values["token"].Reveal() == w.access && w.access != "" && time.Now().Before(w.ends)
}

// TestMUST_C6_KilledAtEveryStep: a process dies before and after each step of a rotation.
// The next one never uses a refresh token twice while there is anything to lose, never
// hands out what is not stored, and either goes on as if nothing had been or says so.
func TestMUST_C6_KilledAtEveryStep(t *testing.T) {
	const load, lease, again, intent, ask, keep = 1, 2, 3, 4, 5, 6
	for step := load; step <= keep; step++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("step %d, after: %t", step, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, log := newWorld(), &bytes.Buffer{}
					if _, err := w.rotor(t, log, Timing{}).Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(45 * time.Minute)
					r := w.rotor(t, log, Timing{})
					w.kill, w.after = step, after
					tok, _ := r.Token(t.Context())
					if len(tok.Values) > 0 && tok.Values["token"].Reveal() != "a1" {
						t.Fatal("a dead process has handed out a new token")
					}
					log.Reset()
					next := w.rotor(t, log, Timing{})
					tok, err := next.Token(t.Context())
					lost := step == intent && after || step == ask || step == keep && !after
					if err != nil || w.revoked || w.used["r1"] > 1 {
						t.Fatalf("%v; revoked: %t, used %v", err, w.revoked, w.used)
					}
					if lost {
						if tok.Values["token"].Reveal() != "a1" || !strings.Contains(log.String(), "level=ERROR") || strings.Contains(log.String(), "r1") {
							t.Errorf("the old token must be used on, and a person called: %s", log)
						}
						return
					}
					if !w.accepts(tok) || tok.Values["token"].Reveal() != "a2" || strings.Contains(log.String(), "ERROR") {
						t.Errorf("%v: %s", tok.Values["token"].Reveal(), log)
					}
				})
			})
		}
	}
}

// Where the issuer takes a token again for a while, the next process recovers at once.
// Otherwise it tries when there is nothing left to lose.
func TestMUST_C6_RecoveryOfAnOpenQuestion(t *testing.T) {
	for name, c := range map[string]struct {
		grace   time.Duration
		spent   bool // the issuer has rotated
		wait    time.Duration
		revoked bool
		good    bool
	}{
		"not asked, no grace, at once":      {0, false, 0, false, true}, // the old one
		"not asked, no grace, at the end":   {0, false, 15 * time.Minute, false, true},
		"rotated, no grace, at the end":     {0, true, 15 * time.Minute, true, false},
		"not asked, grace, at once":         {time.Minute, false, 0, false, true},
		"not asked, grace, when it is over": {time.Minute, false, 2 * time.Minute, false, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, log := newWorld(), &bytes.Buffer{}
				if _, err := w.rotor(t, log, Timing{}).Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				time.Sleep(45 * time.Minute)
				w.state.Asked = time.Now()
				if c.spent {
					w.current = "elsewhere"
				}
				time.Sleep(c.wait)
				tok, err := w.rotor(t, log, Timing{Grace: c.grace}).Token(t.Context())
				if (err == nil) != c.good || w.revoked != c.revoked || c.good && !w.accepts(tok) {
					t.Errorf("%v; revoked: %t; %s", err, w.revoked, log)
				}
				if !c.good && !w.state.Spent {
					t.Error("the state must say that the token is refused")
				}
			})
		})
	}
}

func TestMUST_C6_APairThatCannotBeStoredIsNeitherUsedNorLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, log := newWorld(), &bytes.Buffer{}
		r := w.rotor(t, log, Timing{})
		w.kill = 6 // the disk is full when the pair is stored
		tok, err := r.Token(t.Context())
		if err == nil || len(tok.Values) > 0 || !strings.Contains(log.String(), "not stored yet") {
			t.Fatalf("%v; %s", err, log)
		}
		w.dead, w.kill = false, 0
		if tok, err = r.Token(t.Context()); err != nil || !w.accepts(tok) || w.n != 1 || w.state.Refresh.Reveal() != "r1" {
			t.Errorf("%v; %d rotations, %+v", err, w.n, w.state)
		}
	})
}

func TestMUST_C6_TheUseIsStoredBeforeItIsMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r := w.rotor(t, &bytes.Buffer{}, Timing{})
		if _, err := r.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(w.asked) != 1 || w.asked[0].Asked.IsZero() || w.asked[0].Refresh.Reveal() != "r0" || !w.state.Asked.IsZero() {
			t.Errorf("%+v", w.asked)
		}
	})
}

// An answer that nobody waits for would be lost, and the refresh token with it.
func TestMUST_C6_ACallerThatGoesAwayDoesNotEndAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		slow := func(ctx context.Context, refresh secret.Secret) (Grant, error) {
			select {
			case <-time.After(time.Second):
				return w.ask(ctx, refresh)
			case <-ctx.Done():
				return Grant{}, ctx.Err()
			}
		}
		r, err := New(Options{Store: w, Lease: w, Ask: slow})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if tok, err := r.Token(ctx); err != nil || !w.accepts(tok) || w.state.Refresh.Reveal() != "r1" {
			t.Errorf("%v; %+v", err, w.state)
		}
	})
}

func TestMUST_C5_LifetimesThatAreNotTold(t *testing.T) {
	now := time.Now()
	for told, want := range map[time.Duration]time.Duration{0: time.Minute, -1: time.Minute, 1000 * time.Hour: time.Minute, time.Hour: time.Hour} {
		r, err := New(Options{Store: newWorld(), Lease: newWorld(), Ask: newWorld().ask, Timing: Timing{Life: time.Minute}})
		if err != nil {
			t.Fatal(err)
		}
		if got := r.next(&State{Refresh: secret.New("old")}, Grant{Access: secret.New("a"), Lifetime: told}, now); got.Expires.Sub(now) != want || got.Refresh.Reveal() != "old" {
			t.Errorf("%s: %s", told, got.Expires.Sub(now))
		}
	}
}

func TestNewNeedsAllItsParts(t *testing.T) {
	w := newWorld()
	for _, o := range []Options{{}, {Store: w, Lease: w}, {Store: w, Ask: w.ask}, {Lease: w, Ask: w.ask}} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v", o)
		}
	}
}

func TestMarks(t *testing.T) {
	e := &credential.Error{Kind: credential.NotMinted, RetryAfter: 5, Err: errors.New("x")}
	for _, err := range []error{Untouched(e), Untouched(errPower)} {
		if _, ok := err.(*credential.Error); !ok || !errors.Is(err, ErrUntouched) || errors.Is(err, ErrSpent) { //nolint:errorlint // the outermost
			t.Errorf("%v", err)
		}
	}
	if err, ok := errors.AsType[*credential.Error](Spent(e)); !ok || err.Kind != e.Kind || err.RetryAfter != 5 || !errors.Is(err, ErrSpent) {
		t.Errorf("%v", err)
	}
	for status, want := range map[int]bool{429: true, 503: true, 408: true, 500: false, 502: false, 504: false, 200: false} {
		if Busy(status) != want {
			t.Errorf("%d", status)
		}
	}
}
