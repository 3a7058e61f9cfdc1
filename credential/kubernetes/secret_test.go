// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
)

var (
	_ credential.Provider = (*Secret)(nil)
	_ credential.Notifier = (*Secret)(nil)
	_ credential.Provider = (*Token)(nil)
)

func password(s string) map[string]string { return map[string]string{"password": s} }

func TestFollowsEveryChange(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(map[string]string{"password": "one\n", "user": "svc"})
	s := a.secret(func(c *SecretConfig) { c.UsernameKey = "user" })
	watching(t, s)
	tok, err := s.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Values["token"].Reveal() != "one" || tok.Values["username"].Reveal() != "svc" || tok.Lifetime != 0 {
		t.Fatalf("%v, %v", tok, err)
	}
	a.put(map[string]string{"password": "two", "user": "svc"})
	changed(t, s, "changed")
	if got, err := get(t, s); got != "two" {
		t.Errorf("%q, %v", got, err)
	}
	a.put(map[string]string{"password": "two", "user": "other"})
	changed(t, s, "another user name")
	if tok, err := s.Fetch(t.Context(), credential.Key{}, nil); err != nil || tok.Values["username"].Reveal() != "other" {
		t.Errorf("%v", err)
	}
	a.put(nil)
	changed(t, s, "deleted")
	_, err = get(t, s)
	wantKind(t, err, credential.NotMinted)
	a.put(map[string]string{"password": "three", "user": "svc"})
	changed(t, s, "made again")
	if got, err := get(t, s); got != "three" {
		t.Errorf("%q, %v", got, err)
	}
	if n := a.calls.lists.Load(); n != 1 || a.calls.watches.Load() != 1 || a.calls.bad.Load() != 0 {
		t.Errorf("%d lists, %d watches, %d refused; one of each is enough, by name", n, a.calls.watches.Load(), a.calls.bad.Load())
	}
}

func TestOtherChangesAreNotTold(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(password("one"))
	s := a.secret()
	watching(t, s)
	if _, err := get(t, s); err != nil {
		t.Fatal(err)
	}
	a.put(password("one"))                                          // its metadata, say
	a.put(map[string]string{"password": "one", "other": "changed"}) // another key
	a.put(password("two"))
	changed(t, s, "the value")
	select {
	case <-s.Changes():
		t.Error("told of more than the one change")
	case <-time.After(100 * time.Millisecond):
	}
	// Nobody has asked since: whoever asks next gets the latest all the same.
	a.put(password("three"))
	await(t, "the latest", func() bool { got, _ := get(t, s); return got == "three" })
}

func TestValues(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	for name, tc := range map[string]struct {
		data map[string]string
		want string // empty: NotMinted
	}{
		"plain":           {password("abc"), "abc"},
		"line end":        {password("abc\r\n"), "abc"},
		"blanks are kept": {password(" a b "), " a b "},
		"not ASCII":       {password("ü\xff"), "ü\xff"},
		"largest":         {password(strings.Repeat("x", MaxValue)), strings.Repeat("x", MaxValue)},
		"too large":       {password("hush" + strings.Repeat("x", MaxValue)), ""},
		"empty":           {password(""), ""},
		"two lines":       {password("hush\nhush"), ""},
		"nul":             {password("hush\x00"), ""},
		"no such key":     {map[string]string{"Password": "hush"}, ""},
	} {
		a.put(tc.data)
		s := a.secret()
		got, err := get(t, s)
		if tc.want == "" {
			wantKind(t, err, credential.NotMinted)
		} else if got != tc.want {
			t.Errorf("%s: %.20q, %v", name, got, err)
		}
		_ = s.Close()
	}
}

// TestTellsWhenTheServerComesBack: who was told that there is nothing must hear that there is.
func TestTellsWhenTheServerComesBack(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(password("one"))
	a.set(func() {
		a.fault = func(w http.ResponseWriter, _ *http.Request) bool { a.fail(w, 503, "hush"); return true }
	})
	s := a.secret()
	_, err := get(t, s)
	wantKind(t, err, credential.Unreachable)
	a.set(func() { a.fault = nil })
	changed(t, s, "the server is back")
	if got, err := get(t, s); got != "one" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestGone: what was missed while nobody watched is found by a list.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, asStatus := range []bool{false, true} {
		t.Run(fmt.Sprint("as a status ", asStatus), func(t *testing.T) {
			t.Parallel()
			a := newAPIServer(t)
			a.put(password("one"))
			s := a.secret()
			watching(t, s)
			if _, err := get(t, s); err != nil {
				t.Fatal(err)
			}
			a.set(func() {
				a.goneHTTP = asStatus
				a.fault = func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }
			})
			a.CloseClientConnections()
			await(t, "the watch to break", func() bool { _, ok := s.followed(); return !ok })
			a.put(password("missed"))
			a.put(password("two"))
			a.set(func() { a.compact(); a.fault = nil })
			changed(t, s, "after 410")
			if got, err := get(t, s); got != "two" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// TestGoneForEver: a server that knows no version is not asked without end.
func TestGoneForEver(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.set(func() { a.oldest = 1 << 30 })
	a.secret()
	time.Sleep(time.Second)
	if n := a.calls.lists.Load(); n < 2 || n > 5 {
		t.Errorf("listed %d times in a second", n)
	}
}

// TestWatchesAgainFromTheLastVersion: a watch that ends costs no list, and misses nothing.
func TestWatchesAgainFromTheLastVersion(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(password("0"))
	a.set(func() { a.life = 1100 * time.Millisecond })
	s := a.secret()
	watching(t, s)
	for n := 1; a.calls.watches.Load() < 3; n++ {
		_, _ = get(t, s)
		want := fmt.Sprint(n)
		a.put(password(want))
		await(t, "change "+want, func() bool {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.now.token.Values["token"].Reveal() == want
		})
	}
	listed, mine := a.calls.lists.Load(), int32(0)
	// Fetch lists by itself in the moments without a watch; the follower does so once.
	if mine = listed - 1; mine > 4 {
		t.Errorf("listed %d times", listed)
	}
}

// TestBookmarks: other objects' changes move the version on, so that it is not gone.
func TestBookmarks(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(password("one"))
	a.set(func() { a.bookmark, a.life = 10*time.Millisecond, 1200*time.Millisecond })
	s := a.secret()
	watching(t, s)
	a.set(func() {
		for range 50 {
			a.tick("BOOKMARK")
		}
	})
	time.Sleep(100 * time.Millisecond)
	a.set(func() { a.compact() })
	await(t, "two watches", func() bool { return a.calls.watches.Load() > 1 })
	watching(t, s)
	if n := a.calls.lists.Load(); n != 1 {
		t.Errorf("listed %d times; the bookmark's version was good", n)
	}
}

// TestMUST_C1_NothingOldWhileNobodyWatches: what a watch told before it broke off is not
// taken for how it is.
func TestMUST_C1_NothingOldWhileNobodyWatches(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(password("one"))
	s := a.secret()
	watching(t, s)
	a.set(func() {
		a.fault = func(w http.ResponseWriter, _ *http.Request) bool { a.fail(w, 500, "hush"); return true }
	})
	a.CloseClientConnections()
	await(t, "the watch to break", func() bool { _, ok := s.followed(); return !ok })
	_, err := get(t, s)
	wantKind(t, err, credential.Unreachable)
}

func TestMUST_C8_CacheFollowsTheSecret(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	s := a.secret()
	in, err := credential.NewInjection(credential.InjectionConfig{Header: "Token", Value: "{token}"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Install([]credential.Spec{{Name: "db", Generation: "1", Provider: s, Inject: []credential.Injection{in}, Shared: true}})
	ask := func() string {
		v, err := c.Credential(t.Context(), credential.Key{Provider: "db", Generation: "1"}, nil)
		if err != nil {
			return ""
		}
		return v.Fingerprint()
	}
	if ask() != "" {
		t.Fatal("a value of nothing")
	}
	a.put(password("one")) // which ends the back-off of the failure
	await(t, "the first value", func() bool { return ask() != "" })
	first := ask()
	a.put(password("two"))
	await(t, "the second value", func() bool { now := ask(); return now != "" && now != first })
	a.put(nil)
	await(t, "nothing", func() bool { return ask() == "" })
}

func TestMUST_C9_SecretDoesNotPrint(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	a.put(password("hush-hush"))
	s := a.secret()
	watching(t, s)
	tok, err := s.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Close()
	if out := fmt.Sprintf("%+v %#v %+v %+v", s.now, s.now, tok, s.cfg); strings.Contains(out, "hush") || strings.Contains(out, ownToken) {
		t.Error(out)
	}
}

func TestCloseEndsTheChannelAndIsRepeatable(t *testing.T) {
	t.Parallel()
	a := newAPIServer(t)
	s := a.secret()
	watching(t, s)
	_, _ = s.Close(), s.Close()
	if _, ok := <-s.Changes(); ok {
		t.Error("channel is open")
	}
}

func TestBackoffIsBoundedAndJittered(t *testing.T) {
	seen := map[time.Duration]bool{}
	for fails := 1; fails < 100; fails++ {
		d := backoff(fails)
		if seen[d] = true; d < backoffMin/2 || d > backoffMax*3/2 {
			t.Errorf("backoff(%d) = %s", fails, d)
		}
	}
	if len(seen) < 90 {
		t.Errorf("%d different of 99", len(seen))
	}
}
