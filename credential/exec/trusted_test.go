// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package exec

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/credential"
)

func TestTrusted(t *testing.T) {
	dir := t.TempDir()
	at := func(parts ...string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := func(mode os.FileMode, parts ...string) {
		t.Helper()
		must(os.MkdirAll(filepath.Dir(at(parts...)), 0o755))
		must(os.WriteFile(at(parts...), []byte("#!/bin/sh\n"), 0o600))
		must(os.Chmod(at(parts...), mode))
	}
	file(0o755, "good")
	file(0o500, "private")
	file(0o644, "plain")
	file(0o775, "group")
	file(0o757, "world")
	file(0o755, "open", "program")
	must(os.Chmod(at("open"), 0o777))
	file(0o755, "sticky", "program")
	file(0o755, "sticky", "own", "program")
	must(os.Symlink("own/program", at("sticky", "link")))
	must(os.Chmod(at("sticky"), 0o777|os.ModeSticky))
	file(0o755, "open", "below", "program")
	must(os.Symlink("good", at("link")))
	must(os.Symlink(at("open", "program"), at("to-open")))
	must(os.Symlink(at("good"), at("open", "through")))
	must(os.Symlink(at("open", "through"), at("by-way-of")))
	must(os.Symlink("open/../good", at("dots")))
	must(os.Symlink("loop", at("loop")))
	for path, want := range map[string]string{
		at("good"):                     "",
		at("private"):                  "",
		at("link"):                     "",
		at("sticky", "program"):        "others can put files into it",
		at("sticky", "link"):           "others can put files into it",
		at("sticky", "own", "program"): "",
		at("plain"):                    "must be executable",
		at("group"):                    "others than its owner must not be able to write",
		at("world"):                    "others than its owner must not be able to write",
		at("open", "program"):          "could replace what is in it",
		at("open", "below", "program"): "could replace what is in it",
		at("to-open"):                  "could replace what is in it",
		at("by-way-of"):                "could replace what is in it",
		at("dots"):                     "could replace what is in it",
		at("loop"):                     "too many links",
		at("none"):                     "no such file",
		at("good", "x"):                "must be a folder",
		dir:                            "must be a regular file",
		"/":                            "must be a regular file",
		"/dev/null":                    "must be a regular file",
	} {
		got, err := trusted(path)
		switch {
		case want == "" && (err != nil || !strings.HasPrefix(got, dir)):
			t.Errorf("%s: %q, %v", path, got, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func TestTrustedOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "program")
	link := filepath.Join(dir, "link")
	if err := os.WriteFile(path, nil, 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	if err := os.Symlink("program", link); err != nil {
		t.Fatal(err)
	}
	give := func(p string, uid int) {
		t.Helper()
		if err := os.Lchown(p, uid, -1); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{path, link, dir} {
		give(p, 47001)
		if _, err := trusted(link); err == nil || !strings.Contains(err.Error(), "must be owned by root or by egret's own user") {
			t.Errorf("%s of another: %v", p, err)
		}
		give(p, 0)
	}
	if _, err := trusted(link); err != nil {
		t.Error(err)
	}
}

// TestLookedAtBeforeEachRun: a program that was in good hands at load may not be later.
func TestLookedAtBeforeEachRun(t *testing.T) {
	p := shell(t, `echo '{"token":"t"}'`, nil)
	if _, err := get(t, p); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p.cfg.Command[0], 0o777); err != nil { //nolint:gosec // that is the point
		t.Fatal(err)
	}
	_, err := get(t, p)
	wantKind(t, err, credential.Refused)
	if err := os.Remove(p.cfg.Command[0]); err != nil {
		t.Fatal(err)
	}
	_, err = get(t, p)
	wantKind(t, err, credential.Refused)
}

func TestNotAProgramOfThisMachine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("\x7fELF"), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	_, err := get(t, provider(t, Config{Command: []string{path}}))
	wantKind(t, err, credential.Refused)
}
