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
)

var (
	_ credential.Provider = (*Slots)(nil)
	_ credential.Notifier = (*Slots)(nil)
	_ credential.Refuser  = (*Slots)(nil)
)

// rotation is two slots whose next key is not there yet.
type rotation struct {
	*Slots
	t    testing.TB
	next string
	log  *bytes.Buffer
}

func newRotation(t testing.TB, from time.Time) *rotation {
	t.Helper()
	dir := t.TempDir()
	r := &rotation{t: t, next: filepath.Join(dir, "next"), log: &bytes.Buffer{}}
	write(t, filepath.Join(dir, "current"), "old-key")
	current, err := File(filepath.Join(dir, "current"), Options{Poll: testPoll})
	if err != nil {
		t.Fatal(err)
	}
	next, err := File(r.next, Options{Poll: testPoll})
	if err != nil {
		t.Fatal(err)
	}
	r.Slots = NewSlots(current, next, from, slog.New(slog.NewTextHandler(r.log, nil)))
	t.Cleanup(func() { _ = r.Close() })
	return r
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
	select {
	case <-r.Changes():
	case <-time.After(10 * time.Second):
		t.Fatal("the next key was not told")
	}
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
