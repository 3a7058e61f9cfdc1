// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rotation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

func put(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestStateIsKeptWhole(t *testing.T) {
	path := put(t, "xoxe-1-first\n", 0o600)
	f := NewFile(path)
	s, err := f.Load(t.Context())
	if err != nil || s.Refresh.Reveal() != "xoxe-1-first" || !s.Access.IsZero() {
		t.Fatalf("%+v, %v", s, err)
	}
	now := time.Now().Round(0)
	want := State{Refresh: secret.New(`r"2`), Access: secret.New("a2"), Obtained: now, Expires: now.Add(time.Hour), Asked: now.Add(time.Minute), Spent: true}
	if err := f.Save(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	got, err := NewFile(path).Load(t.Context())
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b secret.Secret) bool { return a.Equal(b) })); err != nil || d != "" {
		t.Errorf("%v (-want +got):\n%s", err, d)
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
}

func TestMUST_C9_StatesThatAreNoneAreNotQuoted(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "blank": " \n", "words": "hush hush", "lines": "hush\nhush", "broken": `{"refresh_token":"hush"`, "other version": `{"version":9,"refresh_token":"hush"}`,
		"no token": `{"version":1}`, "no version": `{"refresh_token":"hush"}`, "binary": "hush\x00", "huge": strings.Repeat("hush", 20_000),
	} {
		_, err := NewFile(put(t, text, 0o600)).Load(t.Context())
		if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != credential.NotMinted || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFilesThatCannotHoldAState(t *testing.T) {
	dir := t.TempDir()
	open := put(t, "r", 0o600)
	if err := os.Chmod(open, 0o604); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "gone"): "no such file", dir: "regular file", open: "chmod o=",
	} {
		_, err := NewFile(path).Load(t.Context())
		if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != credential.Unreachable || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(put(t, "r", 0o600), link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: "no link", filepath.Join(dir, "none", "x"): "no such file", dir: "regular file"} {
		if err := NewFile(path).Save(t.Context(), State{Refresh: secret.New("hush")}); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", path, err)
		}
	}
	if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
		t.Errorf("left behind: %v, %v", names, err)
	}
}

// TestMUST_C14_OneWriter: many holders at once, each alone.
func TestMUST_C14_OneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var mu sync.Mutex
	var wg sync.WaitGroup
	inside, count := 0, 0
	for range 5 {
		l := NewLock(path)
		wg.Go(func() {
			for range 3 {
				release, err := l.Acquire(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if inside++; inside > 1 {
					t.Error("two hold the lease")
				}
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				inside--
				count++
				mu.Unlock()
				release()
			}
		})
	}
	if wg.Wait(); count != 15 {
		t.Errorf("%d of 15", count)
	}
}

func TestLeaseIsWaitedForAndGivenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := NewLock(path).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	_, err = NewLock(path).Acquire(ctx)
	if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != credential.Unreachable || !strings.Contains(err.Error(), "another egret") {
		t.Errorf("%v", err)
	}
	release()
	again, err := NewLock(path).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
	if _, err := NewLock(t.TempDir()).Acquire(t.Context()); err == nil {
		t.Error("a folder is no lock")
	}
}

// What is written into the file counts for owners of other machines, whom flock may not
// show; a holder of this machine that has not given the lease back has died.
func TestOwnersOfOtherMachines(t *testing.T) {
	host, _ := os.Hostname()
	for name, c := range map[string]struct {
		text string
		free bool
	}{
		"of another, alive":   {`{"host":"elsewhere","owner":"x","until":%q}`, false},
		"of this one, dead":   {`{"host":"` + host + `","owner":"x","until":%q}`, true},
		"torn by a power cut": {`{"host":"elsew`, true},
		"empty":               {``, true},
	} {
		path := put(t, "", 0o600)
		text := c.text
		if strings.Contains(text, "%q") {
			text = fmt.Sprintf(text, time.Now().Add(LeaseTime).Format(time.RFC3339Nano))
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 120*time.Millisecond)
		release, err := NewLock(path).Acquire(ctx)
		if cancel(); (err == nil) != c.free {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			release()
		}
	}
	past := put(t, fmt.Sprintf(`{"host":"elsewhere","owner":"x","until":%q}`, time.Now().Add(-time.Second).Format(time.RFC3339Nano)), 0o600)
	release, err := NewLock(past).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("xoxe-1-abc\n"))
	f.Add([]byte(`{"version":1,"refresh_token":"r","access_token":"a","expires":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"version":1`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parse(b)
		if err != nil {
			return
		}
		if s.Refresh.IsZero() {
			t.Fatal("a state without a refresh token")
		}
		text, err := render(s)
		if err != nil {
			return // a year that JSON cannot hold
		}
		again, err := parse(text)
		if err != nil || !again.Refresh.Equal(s.Refresh) || !again.Access.Equal(s.Access) || !again.Expires.Equal(s.Expires) || again.Spent != s.Spent {
			t.Fatalf("%v: %+v, %+v", err, s, again)
		}
	})
}
