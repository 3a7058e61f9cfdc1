// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// lay writes files of a chain; "" is the current one, other keys are suffixes.
func lay(t testing.TB, files map[string]string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "audit.jsonl")
	for suffix, content := range files {
		if err := os.WriteFile(path+suffix, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func line(r Record) string { return string(r.AppendJSON(nil)) + "\n" }

func kind(id, kind string, after time.Duration) Record {
	return Record{Schema: Schema, ID: id, Kind: kind, Time: start.Add(after), Verdict: "allow"}
}

const (
	older = ".20261120T000000.000Z"
	newer = ".20261121T000000.000Z"
)

func TestFind(t *testing.T) {
	a, b, c := kind("a", KindRequest, 0), kind("b", KindRequest, time.Second), kind("c", KindRequest, 2*time.Second)
	s1, s2 := kind("s", KindStreamStart, 0), kind("s", KindStreamEnd, time.Hour)
	decoy := kind("z", KindRequest, 0)
	decoy.UpstreamID, decoy.Detail = "a", `"id":"a"`
	odd := kind("q\"\x1b\n", KindRequest, 0)
	files := map[string]string{
		"":        line(c) + line(s2) + line(decoy) + line(odd) + `{"id":"torn`,
		newer:     line(b) + "no json \"id\":\"b\"\n" + line(b),
		older:     line(a) + line(s1) + line(b),
		".1":      line(kind("foreign", KindRequest, 0)),
		".tmp":    "",
		".2026.Z": line(kind("foreign", KindRequest, 0)),
	}
	path := lay(t, files)
	for name, tc := range map[string]struct {
		id   string
		want []Record
	}{
		"in the current file":        {"c", []Record{c}},
		"written twice":              {"b", []Record{b}},
		"in the oldest":              {"a", []Record{a}},
		"start and end apart":        {"s", []Record{s1, s2}},
		"escaped":                    {odd.ID, []Record{odd}},
		"half a line":                {"torn", nil},
		"in a file that is not ours": {"foreign", nil},
		"empty":                      {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Find(path, tc.id)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			if tc.want == nil && !errors.Is(err, ErrNotFound) || tc.want != nil && err != nil {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestFindFaults(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct{ path, want string }{
		"nothing there": {filepath.Join(dir, "a"), `no record with this id: "x" in "` + filepath.Join(dir, "a") + `" and its rotated files`},
		"no folder":     {filepath.Join(dir, "b", "a"), "no such file or directory"},
		"a folder":      {dir, "is not a regular file"},
		"a device":      {"/dev/zero", "is not a regular file"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Find(tc.path, "x"); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestFindIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range 3 * maxFound {
		b.WriteString(line(kind("x", KindStreamStart, time.Duration(i)*time.Second)))
	}
	got, err := Find(lay(t, map[string]string{"": b.String()}), "x")
	if err != nil || len(got) != maxFound {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func TestRecordsOldestFirst(t *testing.T) {
	path := lay(t, map[string]string{
		"":    line(kind("3", KindRequest, 2*time.Second)),
		newer: line(kind("2", KindRequest, time.Second)) + "garbage\n",
		older: line(kind("1", KindRequest, 0)),
	})
	var got []string
	for r, err := range Records(path) {
		if err != nil {
			got = append(got, strings.TrimPrefix(err.Error(), path))
			continue
		}
		got = append(got, r.ID)
	}
	want := []string{"1", "2", newer + ":2: not a record: invalid character 'g' looking for beginning of value", "3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range Records(path) {
		break // must not panic, nor leak the file
	}
}

func TestRecordsWithoutFiles(t *testing.T) {
	for range Records(filepath.Join(t.TempDir(), "a")) {
		t.Error("a record of no file")
	}
	n := 0
	for _, err := range Records(filepath.Join(t.TempDir(), "b", "a")) {
		if n++; err == nil {
			t.Error("no error for a folder that does not exist")
		}
	}
	if n != 1 {
		t.Errorf("%d values", n)
	}
}

// Rotations while reading neither hide nor repeat a record.
func TestTailAcrossRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	const total = 300
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	written := make(chan error, 1)
	go func() {
		written <- func() error {
			time.Sleep(5 * time.Millisecond) // the file appears after Tail has started
			f, err := OpenFile(FileOptions{Path: path, MaxSize: 600})
			if err != nil {
				return err
			}
			for i := range total {
				if _, err := f.Write([]byte(line(kind(fmt.Sprint(i), KindRequest, 0)))); err != nil {
					return err
				}
				if i%50 == 0 {
					time.Sleep(20 * time.Millisecond)
				}
			}
			return f.Close()
		}()
	}()
	waitFor(t, func() bool { _, err := os.Stat(path); return err == nil })
	var got []string
	for r, err := range Tail(ctx, path, total) {
		if err != nil {
			t.Fatal(err)
		}
		if got = append(got, r.ID); r.ID == fmt.Sprint(total-1) {
			break
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if len(got) == 0 {
		t.Fatal("nothing")
	}
	var first int
	_, _ = fmt.Sscan(got[0], &first)
	for i, id := range got {
		if id != fmt.Sprint(first+i) {
			t.Fatalf("record %d after %d is %s", i, first, id)
		}
	}
	if got[len(got)-1] != fmt.Sprint(total-1) {
		t.Errorf("ended with %s", got[len(got)-1])
	}
}

func TestTailStartsWithTheLast(t *testing.T) {
	var b strings.Builder
	for i := range 10 {
		b.WriteString(line(kind(fmt.Sprint(i), KindRequest, 0)))
	}
	path := lay(t, map[string]string{"": b.String(), older: line(kind("old", KindRequest, 0))})
	for last, want := range map[int][]string{0: nil, 3: {"7", "8", "9"}, 10: {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		var got []string
		for r, err := range Tail(ctx, path, last) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.ID)
		}
		cancel()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("last %d: %s", last, diff)
		}
	}
	for range Tail(t.Context(), path, 5) {
		break
	}
}

func TestTailWaitsForAFile(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	for _, err := range Tail(ctx, filepath.Join(t.TempDir(), "a"), 1) {
		t.Errorf("yielded %v", err)
	}
	n := 0
	for _, err := range Tail(t.Context(), t.TempDir(), 1) {
		if n++; err == nil || !strings.Contains(err.Error(), "is not a regular file") {
			t.Errorf("a folder: %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d values for a folder", n)
	}
}

func TestLinesAreBounded(t *testing.T) {
	in := "short\n" + strings.Repeat("x", 3*maxLine) + "\nafter\r\n\nunfinished"
	l := newLines(strings.NewReader(in))
	for _, want := range []string{"short", "after"} {
		got, err := l.next()
		if err != nil || string(got) != want {
			t.Fatalf("%.20q, %v", got, err)
		}
	}
	if _, err := l.next(); err != io.EOF {
		t.Errorf("unfinished line: %v", err)
	}
	if l.number != 4 || cap(l.part) > 2*maxLine {
		t.Errorf("line %d, %d bytes held", l.number, cap(l.part))
	}
}

// Property: lines yields what splitting yields, but for the rest without an end, empty
// lines and lines over the bound.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\nc"))
	f.Add(bytes.Repeat([]byte("0123456789"), 20_000))
	f.Fuzz(func(t *testing.T, in []byte) {
		var want []string
		parts := bytes.SplitAfter(in, []byte("\n"))
		for _, p := range parts[:len(parts)-1] {
			if s := string(bytes.TrimRight(p, "\r\n")); s != "" && len(p) <= maxLine {
				want = append(want, s)
			}
		}
		var got []string
		for l := newLines(bytes.NewReader(in)); ; {
			b, err := l.next()
			if err != nil {
				break
			}
			got = append(got, string(b))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}

func BenchmarkFind(b *testing.B) {
	var s strings.Builder
	for i := range 20_000 {
		s.WriteString(line(record(fmt.Sprint("id-", i))))
	}
	path := lay(b, map[string]string{"": s.String()})
	b.SetBytes(int64(s.Len()))
	for b.Loop() {
		if _, err := Find(path, "id-19999"); err != nil {
			b.Fatal(err)
		}
	}
}
