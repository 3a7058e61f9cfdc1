// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestRetireClosesWhatWasReplaced(t *testing.T) {
	old, same, next := &issuer{}, &issuer{}, &issuer{}
	keep := specWith(t, same)
	keep.Name = "kept"
	c := newCache(t, CacheOptions{}, specWith(t, old), keep)
	defer c.Close()
	kept := Key{ID: alice, Provider: "kept", Generation: "g1"}
	before := get(t, c, kept).Fingerprint()
	get(t, c, keyOf(alice))

	again := &issuer{}
	keep.Provider = again
	s2 := specWith(t, next)
	s2.Generation = "g2"
	retire := c.Install([]Spec{s2, keep})
	get(t, c, keyOf(alice))
	if old.closed+same.closed != 0 {
		t.Error("closed before retire")
	}
	retire()
	retire()
	if old.closed != 1 || same.closed != 1 || again.closed != 0 || next.closed != 0 {
		t.Errorf("closed: old %d, same %d, again %d, next %d", old.closed, same.closed, again.closed, next.closed)
	}
	getError(t, c, keyOf(alice), Unconfigured)
	if get(t, c, kept).Fingerprint() != before || again.count() != 0 {
		t.Error("an unchanged generation lost its value")
	}
}

func TestRetireOutOfOrder(t *testing.T) {
	c := newCache(t, CacheOptions{})
	defer c.Close()
	var retires []func()
	for i := range 3 {
		s := specWith(t, &issuer{})
		s.Generation = fmt.Sprint(i)
		retires = append(retires, c.Install([]Spec{s}))
	}
	for _, r := range []int{2, 0, 1} {
		retires[r]()
		k := keyOf(alice)
		k.Generation = "2"
		get(t, c, k)
	}
	if len(c.specs) != 1 {
		t.Errorf("%d specs left", len(c.specs))
	}
}

func TestFaultySpecIsNotInstalledAndClosed(t *testing.T) {
	p := &issuer{}
	s := specWith(t, p)
	s.Inject = nil
	c := newCache(t, CacheOptions{}, s, Spec{Name: "x"})
	defer c.Close()
	getError(t, c, keyOf(alice), Unconfigured)
	if p.closed != 1 {
		t.Error("provider of the faulty spec is not closed")
	}
}

func TestSpecValidate(t *testing.T) {
	header := func(name string, hosts ...string) Injection {
		in, err := NewInjection(InjectionConfig{Header: name, Value: "{token}", Hosts: hosts})
		if err != nil {
			t.Fatal(err)
		}
		return in
	}
	remove, _ := NewInjection(InjectionConfig{Remove: []string{"X-A"}})
	good := specWith(t, &issuer{})
	for name, tc := range map[string]struct {
		change func(*Spec)
		ok     bool
	}{
		"good":            {func(*Spec) {}, true},
		"no name":         {func(s *Spec) { s.Name = "" }, false},
		"no generation":   {func(s *Spec) { s.Generation = "" }, false},
		"no provider":     {func(s *Spec) { s.Provider = nil }, false},
		"negative ttl":    {func(s *Spec) { s.TTL = -1 }, false},
		"no injection":    {func(s *Spec) { s.Inject = nil }, false},
		"zero injection":  {func(s *Spec) { s.Inject = []Injection{{}} }, false},
		"only removes":    {func(s *Spec) { s.Inject = []Injection{remove} }, false},
		"same header":     {func(s *Spec) { s.Inject = []Injection{header("X-A"), header("x_a", "a.example")} }, false},
		"wildcard covers": {func(s *Spec) { s.Inject = []Injection{header("X-A", "*.example"), header("X-A", "a.example")} }, false},
		"other hosts":     {func(s *Spec) { s.Inject = []Injection{header("X-A", "a.example"), header("X-A", "b.example")} }, true},
		"other headers":   {func(s *Spec) { s.Inject = []Injection{header("X-A"), header("X-B"), remove} }, true},
	} {
		s := good
		tc.change(&s)
		if err := s.Validate(); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// told is an issuer whose value changes under it.
type told struct {
	issuer
	ch   chan struct{}
	once sync.Once
}

func (p *told) Changes() <-chan struct{} { return p.ch }
func (p *told) Close() error             { p.once.Do(func() { close(p.ch) }); return nil }

func TestNotifierDropsValuesAndFlightsOfTheOldOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &told{ch: make(chan struct{})}
		p.takes = time.Second
		c := newCache(t, CacheOptions{}, specWith(t, p))
		defer c.Close()
		first := get(t, c, keyOf(alice)).Fingerprint()
		p.ch <- struct{}{}
		synctest.Wait()
		got := make(chan string)
		go func() { got <- get(t, c, keyOf(alice)).Fingerprint() }()
		time.Sleep(time.Second / 2)
		p.ch <- struct{}{} // while it is being read: what that read brings is old
		f := <-got
		if p.count() != 3 || f == first {
			t.Errorf("%d reads", p.count())
		}
		if get(t, c, keyOf(alice)).Fingerprint() != f {
			t.Error("the third value was not kept")
		}
	})
}

// TestMUST_C8_ANotifierMadeAnewStartsAnew, unless it answers for the values that are there.
func TestMUST_C8_ANotifierMadeAnewStartsAnew(t *testing.T) {
	c := newCache(t, CacheOptions{}, specWith(t, &told{ch: make(chan struct{})}))
	defer c.Close()
	a, b := get(t, c, keyOf(alice)).Fingerprint(), get(t, c, keyOf(bob)).Fingerprint()
	install := func(p Provider) (ofAlice, ofBob bool) {
		c.Install([]Spec{specWith(t, p)})()
		return c.Held(keyOf(alice), here) != nil, c.Held(keyOf(bob), here) != nil
	}
	if x, y := install(&resumer{told{ch: make(chan struct{})}, a}); !x || y {
		t.Errorf("held: %v, %v; want what the provider answers for", x, y)
	}
	if get(t, c, keyOf(alice)).Fingerprint() != a || get(t, c, keyOf(bob)).Fingerprint() == b {
		t.Error("not the values that are held")
	}
	if x, y := install(&told{ch: make(chan struct{})}); x || y {
		t.Errorf("held: %v, %v; want none", x, y)
	}
}

// resumer answers for one value.
type resumer struct {
	told
	fingerprint string
}

func (p *resumer) Resumes(fingerprint string) bool { return p.fingerprint == fingerprint }

// After a reload the old provider follows the source for a while, too.
func TestARotationIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := newCache(t, CacheOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		defer c.Close()
		var all []*told
		for i := range 4 {
			p := &told{ch: make(chan struct{})}
			sp := specWith(t, p)
			sp.Generation = fmt.Sprint("g", i/2)
			all = append(all, p)
			c.Install([]Spec{sp})
		}
		for round := 1; round <= 2; round++ {
			for _, p := range all {
				p.ch <- struct{}{}
				time.Sleep(time.Second)
			}
			synctest.Wait()
			if n := strings.Count(log.String(), "changed at its source"); n != round {
				t.Errorf("round %d: logged %d times", round, n)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestEvictionNeitherEndsAFlightNorStartsASecond(t *testing.T) {
	p := &issuer{takes: time.Second}
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, CacheOptions{Size: 2, PerWorkload: 1}, specWith(t, p))
		defer c.Close()
		got := make(chan Credential, 2)
		ask := func() { got <- get(t, c, keyOf(alice)) }
		go ask()
		synctest.Wait()
		for i := range 5 { // push alice out
			k := keyOf(spiffeid.RequireFromPathf(alice.TrustDomain(), "/w/%d", i))
			go func() { _, _ = c.Credential(t.Context(), k, here) }()
		}
		synctest.Wait()
		if c.store.entries[keyOf(alice)] != nil {
			t.Fatal("alice is still cached")
		}
		go ask()
		if a, b := <-got, <-got; a.Fingerprint() != b.Fingerprint() {
			t.Error("two flights for one key")
		}
		time.Sleep(time.Second)
		if p.overlap || p.count() != 6 {
			t.Errorf("overlap %v, %d fetches", p.overlap, p.count())
		}
	})
}

func TestOneWorkloadCannotPushOutOthers(t *testing.T) {
	const size, per = 100, 20
	p := &issuer{}
	specs := make([]Spec, 400)
	for i := range specs {
		specs[i] = specWith(t, p)
		specs[i].Name = fmt.Sprint("s", i)
		specs[i].Rate = Rate{PerMinute: 1e6, Burst: 1e6}
	}
	c := newCache(t, CacheOptions{Size: size, PerWorkload: per}, specs...)
	defer c.Close()
	key := func(id spiffeid.ID, i int) Key { return Key{ID: id, Provider: fmt.Sprint("s", i), Generation: "g1"} }
	get(t, c, key(bob, 0))
	for i := range specs {
		get(t, c, key(alice, i))
	}
	if c.store.entries[key(bob, 0)] == nil {
		t.Error("bob was pushed out by alice")
	}
	if n := len(c.store.entries); n != per+1 {
		t.Errorf("%d entries", n)
	}
	for i := range 500 { // more workloads than places
		get(t, c, key(spiffeid.RequireFromPathf(alice.TrustDomain(), "/w/%d", i), 0))
	}
	if n, o := len(c.store.entries), c.store.owners.Len(); n != size || o > size {
		t.Errorf("%d entries of %d workloads", n, o)
	}
	runtime.KeepAlive(here)
}

func TestWorkloadAboveItsShareLosesItsOwn(t *testing.T) {
	s, err := newStore(10, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		s.getOrAdd(keyOf(spiffeid.RequireFromPathf(alice.TrustDomain(), "/w/%d", i)))
	}
	for i := range 50 {
		k := keyOf(bob)
		k.Scopes = fmt.Sprint(i)
		s.getOrAdd(k)
	}
	if len(s.entries) != 10 || s.owners.Len() != 6 {
		t.Errorf("%d entries of %d workloads: others were pushed out", len(s.entries), s.owners.Len())
	}
	for k := range s.entries {
		s.remove(k)
	}
	if s.owners.Len() != 0 {
		t.Errorf("%d workloads without entries", s.owners.Len())
	}
}

// closing writes its name down when it is closed.
type closing struct {
	name string
	log  *[]string
}

func (c closing) Close() error { *c.log = append(*c.log, c.name); return nil }

// What a provider follows is closed with its Spec, after it, and hides none of what the
// provider can do.
func TestOwnedIsClosedAfterItsProvider(t *testing.T) {
	var log []string
	p := &issuer{lifetime: time.Hour}
	inBubble(t, p, func(s *Spec) { s.Owned = []io.Closer{closing{"secret", &log}} }, func(t *testing.T, c *Cache) {
		get(t, c, keyOf(alice))
		next := specWith(t, &issuer{})
		next.Generation = "g2"
		if c.Install([]Spec{next})(); p.closed != 1 || len(log) != 1 {
			t.Errorf("provider closed %d times, owned %q", p.closed, log)
		}
	})
	if p.closed != 1 || len(log) != 1 {
		t.Errorf("at the end: provider closed %d times, owned %q", p.closed, log)
	}
}
