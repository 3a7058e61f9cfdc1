// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package static

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

var (
	_ credential.Provider = (*Slots)(nil)
	_ credential.Notifier = (*Slots)(nil)
	_ credential.Resumer  = (*Slots)(nil)
	_ credential.Refuser  = (*Slots)(nil)
)

// rotation is two slots whose next key is not there yet.
type rotation struct {
	*Slots
	t             testing.TB
	current, next string
	log           *bytes.Buffer // of all that was told on Changes
}

func newRotation(t testing.TB, from time.Time) *rotation {
	t.Helper()
	dir := t.TempDir()
	r := &rotation{t: t, current: filepath.Join(dir, "current"), next: filepath.Join(dir, "next"), log: &bytes.Buffer{}}
	write(t, r.current, "old-key")
	r.Slots = r.slots(from)
	return r
}

// slots are of the same files as all others that r makes.
func (r *rotation) slots(from time.Time) *Slots {
	r.t.Helper()
	log := slog.New(slog.NewTextHandler(r.log, nil))
	s := NewSlots(file(r.t, r.current, Options{Logger: log}), file(r.t, r.next, Options{Logger: log, Next: true}), from, log)
	r.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (r *rotation) want(key string) credential.Token {
	r.t.Helper()
	tok, err := r.Fetch(r.t.Context(), credential.Key{}, nil)
	if err != nil || tok.Values["token"].Reveal() != key {
		r.t.Fatalf("got %q, %v; want %q", tok.Values["token"].Reveal(), err, key)
	}
	return tok
}

func TestSlotsTakeTheNextKeyWhenItIsThere(t *testing.T) {
	r := newRotation(t, time.Time{})
	if tok := r.want("old-key"); tok.Lifetime != 0 {
		t.Errorf("lifetime %s", tok.Lifetime)
	}
	write(t, r.next, "new-key")
	waitChange(t, r.Slots, "the next key")
	r.want("new-key")
	if err := os.Remove(r.next); err != nil {
		t.Fatal(err)
	}
	r.want("old-key")
}

func TestSlotsFallBackToTheCurrentKey(t *testing.T) {
	r := newRotation(t, time.Time{})
	write(t, r.next, "new-key")
	tok := r.want("new-key")
	r.Refused(credential.Key{}, "sha256:another")
	r.want("new-key")
	r.Refused(credential.Key{}, tok.Fingerprint)
	r.want("old-key")
	r.Refused(credential.Key{}, tok.Fingerprint)
	if log := r.log.String(); strings.Count(log, "the next key was refused") != 1 || strings.Contains(log, "new-key") {
		t.Errorf("log: %s", log)
	}
	write(t, r.next, "newer-key") // another one counts anew
	r.want("newer-key")
}

func TestSlotsWaitForTheirTime(t *testing.T) {
	r := newRotation(t, time.Now().Add(time.Hour))
	write(t, r.next, "new-key")
	if tok := r.want("old-key"); tok.Lifetime < 59*time.Minute || tok.Lifetime > time.Hour {
		t.Errorf("lifetime %s: the next key would be found late", tok.Lifetime)
	}
	due := newRotation(t, time.Now().Add(-time.Second))
	write(t, due.next, "new-key")
	due.want("new-key")
}

// TestMUST_C7_RefusedNextKey: through the cache, a refusal of the next key brings the
// current one at once.
func TestMUST_C7_RefusedNextKey(t *testing.T) {
	r := newRotation(t, time.Time{})
	write(t, r.next, "new-key")
	in, err := credential.NewInjection(credential.InjectionConfig{Header: "Token", Value: "{token}"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Install([]credential.Spec{{Name: "qase", Generation: "g", Provider: r, Inject: []credential.Injection{in}, Shared: true}})
	k := credential.Key{Provider: "qase", Generation: "g"}
	first, err := c.Credential(t.Context(), k, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Invalidate(k, first.Fingerprint())
	second, err := c.Credential(t.Context(), k, nil)
	if err != nil || second.Fingerprint() == first.Fingerprint() || second.Fingerprint() != r.want("old-key").Fingerprint {
		t.Errorf("%v, %v", second, err)
	}
}

// TestTheEndOfARotationIsNoError: `mv next value` takes away a file that may be absent.
func TestTheEndOfARotationIsNoError(t *testing.T) {
	for _, tc := range []struct {
		name string
		step func(*rotation) error
		want string
	}{
		{"moved to current", func(r *rotation) error { return os.Rename(r.next, r.current) }, "level=INFO msg=\"there is no next key any more\""},
		{"next emptied", func(r *rotation) error { return os.Truncate(r.next, 0) }, "level=ERROR msg=\"secret file is gone or not usable"},
		{"current removed", func(r *rotation) error { return os.Remove(r.current) }, "level=ERROR msg=\"secret file is gone or not usable"},
	} {
		r := newRotation(t, time.Time{})
		write(t, r.next, "new-key")
		waitChange(t, r.Slots, tc.name)
		if err := tc.step(r); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * testPoll) // one step may change both files, which are looked at apart
		_ = r.Close()             // before the log is read
		if log := r.log.String(); strings.Count(log, "level=") != 1 || !strings.Contains(log, tc.want) {
			t.Errorf("%s: log: %s", tc.name, log)
		}
	}
}

func waitChange(t testing.TB, s *Slots, what string) {
	t.Helper()
	select {
	case <-s.Changes():
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not told", what)
	}
}

// TestSlotsResumeWhatTheyWouldFetch: whatever the files hold when Slots are made, they
// answer for the key that they would use and for no other.
func TestSlotsResumeWhatTheyWouldFetch(t *testing.T) {
	due, later := time.Time{}, time.Now().Add(time.Hour)
	for name, tc := range map[string]struct {
		next string
		from time.Time
		want string
	}{
		"no next key":         {"", due, "old-key"},
		"a next key":          {"new-key", due, "new-key"},
		"one that is not due": {"new-key", later, "old-key"},
	} {
		r := newRotation(t, due)
		if tc.next != "" {
			write(t, r.next, tc.next)
		}
		s := r.slots(tc.from)
		for _, key := range []string{"old-key", "new-key", ""} {
			if got := s.Resumes(secret.New(key).Fingerprint()); got != (key == tc.want) {
				t.Errorf("%s: resumes %q: %v", name, key, got)
			}
		}
		if s.Resumes("") {
			t.Errorf("%s: resumes nothing", name)
		}
	}
}

// TestARefusedNextKeyIsTriedOnceMoreAfterAReload: what new Slots do not know, they find
// out at the price of one refusal.
func TestARefusedNextKeyIsTriedOnceMoreAfterAReload(t *testing.T) {
	r := newRotation(t, time.Time{})
	write(t, r.next, "new-key")
	r.Refused(credential.Key{}, r.want("new-key").Fingerprint)
	old := r.want("old-key").Fingerprint
	r.Slots = r.slots(time.Time{})
	if r.Resumes(old) {
		t.Error("the current key is resumed, and the next one will be tried")
	}
	r.Refused(credential.Key{}, r.want("new-key").Fingerprint)
	r.want("old-key")
}
