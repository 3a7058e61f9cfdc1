// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package static

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

var (
	_ credential.Provider = (*Provider)(nil)
	_ credential.Notifier = (*Provider)(nil)
	_ credential.Resumer  = (*Provider)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPoll is how often the tests' files are looked at.
const testPoll = 20 * time.Millisecond

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func file(t testing.TB, path string, o Options) *Provider {
	t.Helper()
	if o.Poll == 0 {
		o.Poll = testPoll
	}
	p, err := File(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func fetch(t testing.TB, p *Provider) (string, error) {
	t.Helper()
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	return tok.Values["token"].Reveal(), err
}

func wantKind(t testing.TB, err error, k credential.Kind) {
	t.Helper()
	var e *credential.Error
	if !errors.As(err, &e) || e.Kind != k {
		t.Errorf("err = %v, want %s", err, k)
	}
}

func TestFileContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, tc := range []struct {
		name, content, want string
		kind                credential.Kind
	}{
		{"plain", "abc", "abc", -1},
		{"newline", "abc\n", "abc", -1},
		{"several", "abc\r\n\n", "abc", -1},
		{"blanks are kept", " a b ", " a b ", -1},
		{"largest", strings.Repeat("x", MaxSize), strings.Repeat("x", MaxSize), -1},
		{"empty", "", "", credential.NotMinted},
		{"only newlines", "\n\n", "", credential.NotMinted},
		{"too large", strings.Repeat("x", MaxSize+1), "", credential.NotMinted},
		{"two lines", "abc\ndef\n", "", credential.NotMinted},
		{"nul", "abc\x00", "", credential.NotMinted},
	} {
		write(t, path, tc.content)
		got, err := fetch(t, file(t, path, Options{}))
		if got != tc.want {
			t.Errorf("%s: %.20q", tc.name, got)
		}
		if tc.kind >= 0 {
			wantKind(t, err, tc.kind)
			if len(tc.content) > 2 && strings.Contains(err.Error(), "abc") {
				t.Errorf("%s: the error quotes the secret: %v", tc.name, err)
			}
		} else if err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

func TestFetchTellsNameAndFingerprint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "abc\n")
	tok, err := file(t, path, Options{Username: "svc"}).Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Lifetime != 0 || tok.Values["username"].Reveal() != "svc" || tok.Fingerprint != "sha256:ba7816bf8f01" {
		t.Errorf("%+v, %v", tok, err)
	}
}

func TestMUST_C1_VanishedOrEmptyFileIsAnError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "abc")
	p := file(t, path, Options{})
	if _, err := fetch(t, p); err != nil {
		t.Fatal(err)
	}
	write(t, path, "")
	_, err := fetch(t, p)
	wantKind(t, err, credential.NotMinted)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, err = p.Value()
	wantKind(t, err, credential.Unreachable)
}

func TestNotARegularFile(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	if err := os.Mkdir(sub, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := fetch(t, file(t, sub, Options{}))
	wantKind(t, err, credential.Unreachable)
	if _, err := File(filepath.Join(dir, "none", "key"), Options{}); err == nil {
		t.Error("a folder that is not there can be followed")
	}
}

func changed(t *testing.T, p *Provider, what string) {
	t.Helper()
	select {
	case <-p.Changes():
	case <-time.After(5 * time.Second):
		t.Fatalf("%s: not told", what)
	}
}

func TestFollowsEveryWayAFileChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	write(t, path, "one")
	p := file(t, path, Options{})
	expect := func(what, want string) {
		t.Helper()
		changed(t, p, what)
		if got, _ := fetch(t, p); got != want {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	write(t, path, "two")
	expect("written", "two")
	write(t, path+".new", "three")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	expect("renamed over", "three")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("removed", "")
	write(t, path, "four")
	expect("back again", "four")
}

// Kubernetes: key -> ..data/key, ..data -> ..1, and ..data is replaced.
func TestFollowsKubernetesSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	link := func(target, name string) {
		t.Helper()
		tmp := filepath.Join(dir, "tmp")
		if err := os.Symlink(target, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	put := func(n int) {
		t.Helper()
		d := fmt.Sprintf("..%d", n)
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, d, "key"), fmt.Sprint("value", n))
		link(d, "..data")
	}
	put(1)
	link("..data/key", "key")
	p := file(t, filepath.Join(dir, "key"), Options{})
	for n := 2; n < 5; n++ {
		put(n)
		if err := os.RemoveAll(filepath.Join(dir, fmt.Sprintf("..%d", n-1))); err != nil {
			t.Fatal(err)
		}
		changed(t, p, "swap")
		if got, err := fetch(t, p); got != fmt.Sprint("value", n) {
			t.Errorf("after swap %d: %q, %v", n, got, err)
		}
	}
}

func TestFollowsALinkIntoAnotherFolder(t *testing.T) {
	dir, far := t.TempDir(), t.TempDir()
	write(t, filepath.Join(far, "real"), "one")
	path := filepath.Join(dir, "key")
	if err := os.Symlink(filepath.Join(far, "real"), path); err != nil {
		t.Fatal(err)
	}
	p := file(t, path, Options{})
	write(t, filepath.Join(far, "real"), "two")
	changed(t, p, "write behind the link")
	if got, _ := fetch(t, p); got != "two" {
		t.Errorf("%q", got)
	}
}

func TestSameContentAndNeighboursAreNotTold(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	write(t, path, "one")
	p := file(t, path, Options{})
	write(t, path, "one\n")
	write(t, filepath.Join(dir, "other"), "x")
	select {
	case <-p.Changes():
		t.Error("told of no change")
	case <-time.After(10 * testPoll):
	}
}

// A write that leaves size and, on a coarse clock, the time as they were.
func TestFollowsAChangeThatLeavesTimeAndSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "one")
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	p := file(t, path, Options{})
	write(t, path, "two")
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
	changed(t, p, "same time and size")
}

// An old file is not read again while nothing about it has changed, and all the same
// now and then.
func TestLooksWithoutReading(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "one")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	reads := 0
	p := newProvider(Options{}, func() (secret.Secret, error) { reads++; return readFile(path) })
	w, err := newWatcher(path, p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range readAfter - 1 {
		w.check()
	}
	if reads != 1 {
		t.Errorf("read %d times", reads)
	}
	if w.check(); reads != 2 {
		t.Errorf("never read again: %d", reads)
	}
}

// Reloads keep old providers for a while: whatever is held per provider runs out.
func TestFollowingCostsNoDescriptor(t *testing.T) {
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("no /proc here")
		}
		return len(list)
	}
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "one")
	before := open()
	var all []*Provider
	for range 200 {
		all = append(all, file(t, path, Options{}))
	}
	if n := open() - before; n > 5 {
		t.Errorf("%d descriptors for 200 providers", n)
	}
	write(t, path, "two")
	for _, p := range all {
		changed(t, p, "one of many")
	}
}

func TestCloseEndsTheChannelAndIsRepeatable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "one")
	env, err := Env("X", os.LookupEnv, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*Provider{file(t, path, Options{}), env} {
		_, _ = p.Close(), p.Close()
		if _, ok := <-p.Changes(); ok {
			t.Error("channel is open")
		}
	}
}

func TestWorldReadableFileIsWarnedAbout(t *testing.T) {
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o640: false, 0o644: true} {
		var log bytes.Buffer
		path := filepath.Join(t.TempDir(), "key")
		write(t, path, "hush")
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		file(t, path, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if got := strings.Contains(log.String(), "can be read by every user"); got != want || strings.Contains(log.String(), "hush") {
			t.Errorf("mode %o: %q", mode, log.String())
		}
	}
}

func TestSystemd(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "slack"), "abc\n")
	p, err := Systemd(dir, "slack", Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close() //nolint:errcheck // never fails
	if got, err := fetch(t, p); got != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []struct{ dir, name string }{{"", "slack"}, {dir, ""}, {dir, ".."}, {dir, "."}, {dir, "../x"}, {dir, "a/b"}} {
		if _, err := Systemd(bad.dir, bad.name, Options{}); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
}

func TestEnv(t *testing.T) {
	vars := map[string]string{"KEY": "abc", "EMPTY": ""}
	lookup := func(n string) (string, bool) { v, ok := vars[n]; return v, ok }
	get := func(name string) (string, error) {
		p, err := Env(name, lookup, Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close() //nolint:errcheck // never fails
		return fetch(t, p)
	}
	if got, err := get("KEY"); got != "abc" {
		t.Errorf("%q, %v", got, err)
	}
	_, err := get("EMPTY")
	wantKind(t, err, credential.NotMinted)
	_, err = get("NONE")
	wantKind(t, err, credential.Unreachable)
	if _, err := Env("A=B", lookup, Options{}); err == nil {
		t.Error("A=B is no name")
	}
}

func TestMUST_C9_ProviderDoesNotPrint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "hush-hush")
	p := file(t, path, Options{Username: "svc"})
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.Close() //nolint:errcheck // the watcher's last value is not written any more
	if s := fmt.Sprintf("%+v %#v %+v %v", p, p, tok, tok); strings.Contains(s, "hush") {
		t.Error(s)
	}
}

func TestMUST_C8_CacheFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	write(t, path, "one")
	in, err := credential.NewInjection(credential.InjectionConfig{Header: "Token", Value: "{token}"})
	if err != nil {
		t.Fatal(err)
	}
	p := file(t, path, Options{})
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Install([]credential.Spec{{Name: "qase", Generation: "1", Provider: p, Inject: []credential.Injection{in}, Shared: true}})
	ask := func() string {
		v, err := c.Credential(t.Context(), credential.Key{Provider: "qase", Generation: "1"}, nil)
		if err != nil {
			return err.Error()
		}
		return v.Fingerprint()
	}
	first := ask()
	write(t, path, "two")
	for end := time.Now().Add(5 * time.Second); ask() == first; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the old value is still served")
		}
	}
}

// TestMUST_C8_AReloadKeepsAnUnchangedKey, and no other.
func TestMUST_C8_AReloadKeepsAnUnchangedKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	in, err := credential.NewInjection(credential.InjectionConfig{Header: "Token", Value: "{token}"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := credential.NewCache(credential.CacheOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := credential.Key{Provider: "qase", Generation: "1"}
	install := func(p credential.Provider) (held string) {
		c.Install([]credential.Spec{{Name: "qase", Generation: "1", Provider: p, Inject: []credential.Injection{in}, Shared: true}})()
		if v := c.Held(k, nil); v != nil {
			held = v.Fingerprint()
		}
		return held
	}
	ask := func() string {
		t.Helper()
		v, err := c.Credential(t.Context(), k, nil)
		if err != nil {
			t.Fatal(err)
		}
		return v.Fingerprint()
	}
	write(t, path, "one")
	install(file(t, path, Options{Poll: time.Hour}))
	first := ask()
	if held := install(file(t, path, Options{Poll: time.Hour})); held != first {
		t.Errorf("held after a reload that changed nothing: %q", held)
	}
	write(t, path, "two") // seen by nobody yet
	if held := install(file(t, path, Options{})); held != "" || ask() == first {
		t.Errorf("held after a change: %q", held)
	}
	second, p := ask(), file(t, path, Options{})
	write(t, path, "one") // after p was made, before it is in place
	install(p)
	for end := time.Now().Add(5 * time.Second); ask() == second; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the old value is still served")
		}
	}
	value := "one"
	env, err := Env("KEY", func(string) (string, bool) { return value, true }, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if held := install(env); held != first {
		t.Errorf("a variable that is the same: %q", held)
	}
}
