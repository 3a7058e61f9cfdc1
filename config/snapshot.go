// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Snapshot is the content of files and folders at one time, as digests. It is taken
// before they are read, so that a change during the load is not missed.
type Snapshot struct{ sums map[string]string }

// TakeSnapshot looks at files and, recursively, at folders. Paths that do not exist
// are part of it: their appearing is a change.
func TakeSnapshot(paths ...string) Snapshot {
	s := Snapshot{sums: make(map[string]string, len(paths))}
	for _, p := range paths {
		s.take(p)
	}
	return s
}

// take adds a path, while the snapshot is not yet shared.
func (s Snapshot) take(p string) { s.sums[p] = make(visits).digest(p) }

func (s Snapshot) has(p string) bool {
	_, ok := s.sums[p]
	return ok
}

// With returns a snapshot that holds both, for whoever watches more than a load has
// read (egret.yaml itself); o wins where both know a path.
func (s Snapshot) With(o Snapshot) Snapshot {
	out := Snapshot{sums: make(map[string]string, len(s.sums)+len(o.sums))}
	for _, from := range []Snapshot{s, o} {
		for p, sum := range from.sums {
			out.sums[p] = sum
		}
	}
	return out
}

// Paths returns what the snapshot is of, sorted.
func (s Snapshot) Paths() []string {
	out := make([]string, 0, len(s.sums))
	for p := range s.sums {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

// now takes a snapshot of the same paths.
func (s Snapshot) now() Snapshot { return TakeSnapshot(s.Paths()...) }

func (s Snapshot) equal(o Snapshot) bool {
	for p, sum := range s.sums {
		if o.sums[p] != sum {
			return false
		}
	}
	return len(s.sums) == len(o.sums)
}

// visits is the set of real folders that a walk has entered. Each is entered once, so
// that links in a circle end, and folders that link to each other cost no more than
// their number.
type visits map[string]bool

func (v visits) first(dir string) bool {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil || v[real] {
		return false
	}
	v[real] = true
	return true
}

// digest tells contents apart. Modes are part of it: a key that has become private
// may be what an operator has just put right.
func (v visits) digest(name string) string {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return "missing"
	case info.IsDir():
		return v.folder(name)
	case !info.Mode().IsRegular() || info.Size() > maxFileBytes:
		return fmt.Sprintf("other %v %d %v", info.Mode(), info.Size(), info.ModTime())
	}
	f, err := os.Open(name)
	if err != nil {
		return "unreadable"
	}
	defer func() { _ = f.Close() }() // only read
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, maxFileBytes+1)); err != nil {
		return "unreadable"
	}
	return fmt.Sprintf("file %v %x", info.Mode(), h.Sum(nil))
}

// folder covers what a load would look at: names without a leading dot.
func (v visits) folder(name string) string {
	if !v.first(name) {
		return "seen"
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return "unreadable"
	}
	h := sha256.New()
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			_, _ = fmt.Fprintf(h, "%q %s\n", e.Name(), v.digest(filepath.Join(name, e.Name())))
		}
	}
	return fmt.Sprintf("folder %x", h.Sum(nil))
}
