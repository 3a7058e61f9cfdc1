// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// within ends a test that waits for what never comes.
func within(t *testing.T, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("%s did not end within %s", what, d)
	}
}

// TestMUST_G1_LinkToAFolderElsewhere: whoever may write a scoped folder leads neither the
// load nor the snapshot nor the watch out of it, and has no file there read.
func TestMUST_G1_LinkToAFolderElsewhere(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "plat/p.yaml", workload("p"), 0o600)
	put(t, dir, "team/q.yaml", workload("q"), 0o600)
	put(t, dir, "elsewhere/e.yaml", workload("e"), 0o600)
	outside := filepath.Join(dir, "elsewhere")
	check(t, unix.Mkfifo(filepath.Join(outside, "pipe"), 0o600))
	team := PolicyPath{Path: filepath.Join(dir, "team"), Scope: []string{"spiffe://acme.example/ns/qa/**"}}
	paths := []PolicyPath{{Path: filepath.Join(dir, "plat")}, team}
	for _, target := range []string{"/", outside} {
		link := filepath.Join(team.Path, "root.d")
		check(t, os.Symlink(target, link))
		within(t, 10*time.Second, "the load with a link to "+target, func() {
			_, faults := LoadPolicy(paths)
			if !strings.Contains(faults.Error(), "root.d: must not be a link out of its folder") {
				t.Errorf("link to %s: %v", target, faults)
			}
			before := policySnapshot(paths)
			put(t, dir, "elsewhere/e.yaml", workload("changed"), 0o600)
			if !before.equal(before.now()) || !before.equal(before.With(before).now()) {
				t.Errorf("link to %s: the snapshot looks outside", target)
			}
			for _, d := range foldersOf(team.Path, before.held[team.Path]) {
				if d != dir && d != team.Path {
					t.Errorf("link to %s: %s is watched", target, d)
				}
			}
			check(t, os.Remove(link))
			if before.equal(before.now()) {
				t.Errorf("link to %s: its end is not seen", target)
			}
		})
	}
}

// TestMUST_G1_SwappedAfterTheListing: a link that comes between listing and reading.
func TestMUST_G1_SwappedAfterTheListing(t *testing.T) {
	dir := t.TempDir()
	secret := put(t, dir, "secret.yaml", "hunter2", 0o600)
	team := filepath.Join(dir, "team")
	put(t, team, "sub/a.yaml", workload("a"), 0o600)
	if _, err := readWithin(team, filepath.Join(team, "sub/a.yaml")); err != nil {
		t.Fatal(err)
	}
	check(t, os.Symlink(secret, filepath.Join(team, "file.yaml")))
	check(t, os.Symlink(dir, filepath.Join(team, "folder")))
	for _, name := range []string{"file.yaml", "folder/secret.yaml"} {
		if data, err := readWithin(team, filepath.Join(team, name)); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
	}
}

// TestPolicyFolderBounds: what a folder may cost, with and without a scope.
func TestPolicyFolderBounds(t *testing.T) {
	dir := t.TempDir()
	deep := dir
	for range maxFolders + 1 {
		deep = filepath.Join(deep, "d")
	}
	put(t, deep, "a.yaml", workload("a"), 0o600)
	many := t.TempDir()
	put(t, many, "a.yaml", workload("a"), 0o600)
	for i := range maxNames {
		check(t, os.Link(filepath.Join(many, "a.yaml"), filepath.Join(many, fmt.Sprintf("%d.txt", i))))
	}
	linked := t.TempDir()
	check(t, os.Symlink(many, filepath.Join(linked, "x")))
	big := t.TempDir()
	text := workload("a") + "#" + strings.Repeat(" ", 4_000_000)
	for i := range maxSourceBytes/len(text) + 1 {
		put(t, big, fmt.Sprintf("%d.yaml", i), strings.ReplaceAll(text, "name: a", fmt.Sprintf("name: a%d", i)), 0o600)
	}
	for folder, want := range map[string]string{
		dir:    "must be at most 16 folders deep",
		many:   "must hold at most 20000 names",
		linked: "must hold at most 20000 names",
		big:    "must have at most 32MiB, with all files",
	} {
		_, faults := LoadPolicy([]PolicyPath{{Path: folder}})
		if len(faults) != 1 || !strings.Contains(faults.Error(), want) {
			t.Errorf("%d faults: %.300s, want %s", len(faults), faults.Error(), want)
		}
		if s := TakeSnapshot(folder); !s.equal(s.now()) {
			t.Errorf("%s: two snapshots differ", want)
		}
	}
}

func TestScopedObjectsAreBounded(t *testing.T) {
	dir := t.TempDir()
	const each = maxScoped / 4
	for f := range 5 {
		var b strings.Builder
		for i := range each {
			fmt.Fprintf(&b, "---\napiVersion: egret.dev/v1alpha1\nkind: Workload\nmetadata: {name: w%d-%d}\n", f, i)
		}
		put(t, dir, fmt.Sprintf("%d.yaml", f), b.String(), 0o600)
	}
	docs, faults := LoadPolicy([]PolicyPath{{Path: dir, Scope: []string{"spiffe://acme.example/**"}}})
	if len(docs.Objects) != maxScoped || len(faults) != 1 || !strings.Contains(faults.Error(), "must hold at most 10000 objects") {
		t.Errorf("%d objects, faults %v", len(docs.Objects), faults)
	}
	if docs, faults = LoadPolicy([]PolicyPath{{Path: dir}}); len(docs.Objects) != 5*each || len(faults) > 0 {
		t.Errorf("without scope %d objects, faults %v", len(docs.Objects), faults)
	}
}

// TestOnlyRegularFilesAreRead: a file that could wait, or has no end, is a fault at once.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe.yaml")
	check(t, unix.Mkfifo(pipe, 0o600))
	names := []string{pipe, "/dev/zero", "/dev/tty"}
	if runtime.GOOS == "linux" {
		names = append(names, "/proc/self/status")
		if _, err := os.Stat("/proc/kmsg"); err == nil {
			names = append(names, "/proc/kmsg")
		}
	}
	for _, name := range names {
		within(t, 10*time.Second, name, func() {
			if data, err := ReadFile(name); err == nil {
				t.Errorf("%s: read %d bytes", name, len(data))
			}
			if _, faults := LoadPolicy([]PolicyPath{{Path: name}}); len(faults) != 1 {
				t.Errorf("%s: faults %v", name, faults)
			}
			if _, faults := LoadNode(name, Env{}); len(faults) != 1 {
				t.Errorf("%s as settings: faults %v", name, faults)
			}
			TakeSnapshot(name)
			if name == pipe { // whatever it was when it was looked at
				if _, err := readRegular(pipe); err == nil {
					t.Error("a pipe was read")
				}
			}
		})
	}
	if _, faults := LoadPolicy([]PolicyPath{{Path: dir}}); !strings.Contains(faults.Error(), "pipe.yaml: must be a file that can be read: it is not a regular file") {
		t.Errorf("a pipe in a folder: %v", faults)
	}
}
