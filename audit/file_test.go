// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func openFile(t testing.TB, o FileOptions) *File {
	t.Helper()
	f, err := OpenFile(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func write(t testing.TB, f *File, s string) {
	t.Helper()
	if _, err := f.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

// tree returns name -> content of a directory.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got[e.Name()] = string(b)
	}
	return got
}

func TestFileModeAndAppend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	for _, s := range []string{"one\n", "two\n"} {
		f := openFile(t, FileOptions{Path: path})
		write(t, f, s)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
	if diff := cmp.Diff(map[string]string{"a.jsonl": "one\ntwo\n"}, tree(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
}

func TestFileEndsATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.jsonl")
	if err := os.WriteFile(path, []byte("whole\n{\"id\":"), 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, openFile(t, FileOptions{Path: path}), "next\n")
	if b, _ := os.ReadFile(path); string(b) != "whole\n{\"id\":\nnext\n" {
		t.Errorf("%q", b)
	}
}

func TestFileFaults(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(t *testing.T, path string)
		o       FileOptions
		want    string
	}{
		"symlink": {prepare: func(t *testing.T, path string) {
			if err := errors.Join(os.WriteFile(path+".real", nil, 0o600), os.Symlink(path+".real", path)); err != nil {
				t.Fatal(err)
			}
		}, want: `is a symbolic link: name the file itself`},
		"dangling symlink": {prepare: func(t *testing.T, path string) {
			if err := os.Symlink(path+".nowhere", path); err != nil {
				t.Fatal(err)
			}
		}, want: `is a symbolic link`},
		"fifo": {prepare: func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, want: `is not a regular file: use - for standard output`},
		"directory": {prepare: func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, want: `is a directory`},
		"writable by others": {prepare: func(t *testing.T, path string) {
			if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, 0o622)); err != nil {
				t.Fatal(err)
			}
		}, want: `has mode 0622: others may change records; run chmod go-w`},
		"no folder":      {o: FileOptions{Path: "/nonexistent/egret/a"}, want: "no such file or directory"},
		"negative size":  {o: FileOptions{MaxSize: -1}, want: "audit file: maxSize is -1 and maxFiles is 0: neither may be negative"},
		"negative files": {o: FileOptions{MaxFiles: -2}, want: "maxFiles is -2"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.o.Path == "" {
				tc.o.Path = filepath.Join(t.TempDir(), "a")
			}
			if tc.prepare != nil {
				tc.prepare(t, tc.o.Path)
			}
			f, err := OpenFile(tc.o)
			if err == nil {
				_ = f.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want an error with %q", err, tc.want)
			}
			if _, err := os.Lstat(tc.o.Path + ".nowhere"); err == nil {
				t.Error("the link was followed")
			}
		})
	}
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		for _, name := range []string{"a.jsonl.1", "a.jsonl.20000101T000000Z", "b.jsonl.19990101T000000.000Z"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("foreign"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f := openFile(t, FileOptions{Path: filepath.Join(dir, "a.jsonl"), MaxSize: 10, MaxFiles: 2})
		for i := range 5 {
			write(t, f, fmt.Sprintf("%d line\n", i)) // 7 bytes
			if i%2 == 1 {
				time.Sleep(time.Second)
			}
		}
		// 0 went to 00:00:00.000 and 1 to 00:00:01.000, both pruned since; 2 was rotated in
		// the same instant as 1.
		want := map[string]string{
			"a.jsonl":                      "4 line\n",
			"a.jsonl.20000101T000001.001Z": "2 line\n",
			"a.jsonl.20000101T000002.000Z": "3 line\n",
			"a.jsonl.1":                    "foreign",
			"a.jsonl.20000101T000000Z":     "foreign",
			"b.jsonl.19990101T000000.000Z": "foreign",
		}
		if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRotationThatFailsKeepsWriting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "logs")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		f := openFile(t, FileOptions{Path: filepath.Join(dir, "a"), MaxSize: 4})
		write(t, f, "one\n")
		if err := os.Rename(dir, dir+".away"); err != nil {
			t.Fatal(err)
		}
		write(t, f, "two\n")
		write(t, f, "three\n")
		if diff := cmp.Diff(map[string]string{"a": "one\ntwo\nthree\n"}, tree(t, dir+".away")); diff != "" {
			t.Fatal(diff)
		}
		if err := os.Rename(dir+".away", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(rotateRetry)
		write(t, f, "four\n")
		if got := tree(t, dir)["a"]; got != "four\n" {
			t.Errorf("not rotated a minute later: %q", got)
		}
	})
}

func TestReopenAfterLogrotate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, FileOptions{Path: path})
	write(t, f, "old\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, f, "still old\n")
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	write(t, f, "new\n")
	want := map[string]string{"a": "new\n", "a.1": "old\nstill old\n"}
	if diff := cmp.Diff(want, tree(t, filepath.Dir(path))); diff != "" {
		t.Error(diff)
	}
}

func TestReopenThatFailsKeepsTheOldFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, FileOptions{Path: path})
	if err := errors.Join(os.Rename(path, path+".1"), os.Symlink(path+".1", path)); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err == nil || !strings.Contains(err.Error(), "symbolic link") {
		t.Fatalf("Reopen: %v", err)
	}
	write(t, f, "kept\n")
	if b, _ := os.ReadFile(path + ".1"); string(b) != "kept\n" {
		t.Errorf("%q", b)
	}
}

func TestSyncNoticesAFileThatIsGone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, FileOptions{Path: path})
	write(t, f, "lost with the file\n")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	write(t, f, "kept\n")
	if b, _ := os.ReadFile(path); string(b) != "kept\n" {
		t.Errorf("%q", b)
	}
}

func TestSyncLearnsOfCopytruncate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, FileOptions{Path: path, MaxSize: 10})
	write(t, f, "12345678\n")
	if err := errors.Join(os.Truncate(path, 0), f.Sync()); err != nil {
		t.Fatal(err)
	}
	write(t, f, "1234567\n")
	if got := tree(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("rotated although there was room: %v", got)
	}
}

func TestClosedFile(t *testing.T) {
	f := openFile(t, FileOptions{Path: filepath.Join(t.TempDir(), "a")})
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	_, werr := f.Write([]byte("x"))
	for _, err := range []error{werr, f.Sync(), f.Reopen()} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("got %v, want fs.ErrClosed", err)
		}
	}
}

// limitFileSize makes the kernel refuse to let files grow beyond n bytes: like a full
// disk it takes a part of a write and refuses the rest.
func limitFileSize(t *testing.T, n uint64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		_ = unix.Setrlimit(unix.RLIMIT_FSIZE, &old)
		signal.Reset(syscall.SIGXFSZ)
	}
	t.Cleanup(lift)
	return lift
}

func TestFullDiskLeavesNoHalfLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, FileOptions{Path: path})
	write(t, f, "first\n")
	lift := limitFileSize(t, 10)
	if n, err := f.Write([]byte("second\n")); n != 0 || !errors.Is(err, unix.EFBIG) {
		t.Fatalf("Write on a full disk: %d, %v", n, err)
	}
	if b, _ := os.ReadFile(path); string(b) != "first\n" {
		t.Errorf("a part was left: %q", b)
	}
	lift()
	write(t, f, "second\n")
	if b, _ := os.ReadFile(path); string(b) != "first\nsecond\n" {
		t.Errorf("%q", b)
	}
}

func TestFullDiskWithAnotherWriterStartsANewLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, FileOptions{Path: path})
	write(t, f, "first\n")
	f.size-- // as if another process had written a byte
	lift := limitFileSize(t, 10)
	if n, err := f.Write([]byte("second\n")); n != 0 || err == nil {
		t.Fatalf("Write: %d, %v", n, err)
	}
	lift()
	write(t, f, "second\n")
	if b, _ := os.ReadFile(path); string(b) != "first\nseco\nsecond\n" {
		t.Errorf("%q", b)
	}
}

func TestMUST_A1_FullDiskThenSpaceLosesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	j := journal(t, Options{Writer: openFile(t, FileOptions{Path: path})})
	begin(t, j).Write(record("1"))
	waitFor(t, func() bool { return j.open.Load() == 0 })
	inFlight := begin(t, j)
	lift := limitFileSize(t, 600)
	begin(t, j).Write(record("2"))
	waitFor(t, func() bool { return j.Healthy() != nil })
	if _, err := j.Begin(); !errors.Is(err, ErrFull) {
		t.Errorf("Begin on a full disk: %v", err)
	}
	inFlight.Write(record("3"))
	lift()
	waitFor(t, func() bool { return j.Healthy() == nil })
	begin(t, j).Write(record("4"))
	if err := j.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if diff := cmp.Diff([]string{"1", "2", "3", "4"}, readIDs(t, b)); diff != "" {
		t.Error(diff)
	}
}

func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen in 5 s")
		}
	}
}
