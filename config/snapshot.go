// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
)

// Snapshot is the content of files and folders at one time, as digests. It is taken
// before they are read, so that a change during the load is not missed.
type Snapshot struct {
	sums map[string]string
	held map[string]bool // folders whose links are not followed out of them
}

// TakeSnapshot looks at files and, recursively, at folders. Paths that do not exist
// are part of it: their appearing is a change.
func TakeSnapshot(paths ...string) Snapshot {
	s := newSnapshot(len(paths))
	for _, p := range paths {
		s.take(p)
	}
	return s
}

func newSnapshot(n int) Snapshot {
	return Snapshot{sums: make(map[string]string, n), held: map[string]bool{}}
}

// policySnapshot looks at the entries of policy.paths, and nowhere that a load does not.
func policySnapshot(paths []PolicyPath) Snapshot {
	s := newSnapshot(len(paths))
	for _, p := range paths {
		if len(p.Scope) > 0 {
			s.held[p.Path] = true
		}
		s.take(p.Path)
	}
	return s
}

// take adds a path, while the snapshot is not yet shared.
func (s Snapshot) take(p string) { s.sums[p] = pathDigest(p, s.held[p]) }

func (s Snapshot) has(p string) bool {
	_, ok := s.sums[p]
	return ok
}

// With returns a snapshot that holds both, for whoever watches more than a load has
// read (egret.yaml itself); o wins where both know a path.
func (s Snapshot) With(o Snapshot) Snapshot {
	out := newSnapshot(len(s.sums) + len(o.sums))
	for _, from := range []Snapshot{s, o} {
		maps.Copy(out.sums, from.sums)
		maps.Copy(out.held, from.held)
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
func (s Snapshot) now() Snapshot {
	out := newSnapshot(len(s.sums))
	maps.Copy(out.held, s.held)
	for p := range s.sums {
		out.take(p)
	}
	return out
}

func (s Snapshot) equal(o Snapshot) bool {
	for p, sum := range s.sums {
		if o.sums[p] != sum {
			return false
		}
	}
	return len(s.sums) == len(o.sums)
}

// pathDigest tells the contents of a path apart.
func pathDigest(name string, held bool) string {
	info, real, err := statReal(name)
	switch {
	case err != nil:
		return "missing"
	case !info.IsDir():
		return fileDigest(real, info)
	}
	return folderDigest(newWalker(real, held), child{real: real, info: info}, 0)
}

// fileDigest has the mode as a part: a key that has become private may be what an
// operator has just put right.
func fileDigest(name string, info fs.FileInfo) string {
	if !info.Mode().IsRegular() || info.Size() > maxFileBytes {
		return fmt.Sprintf("other %v %d %v", info.Mode(), info.Size(), info.ModTime())
	}
	f, err := openRegular(name)
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

// folderDigest covers what a load looks at.
func folderDigest(w *walker, c child, depth int) string {
	if depth > maxFolders || !w.enter(c.real) {
		return "seen"
	}
	list, err := w.list(c.name, c.real)
	if err != nil {
		return reason(err)
	}
	h := sha256.New()
	for _, x := range list {
		_, _ = fmt.Fprintf(h, "%q %s\n", filepath.Base(x.name), childDigest(w, x, depth+1))
	}
	return fmt.Sprintf("folder %x", h.Sum(nil))
}

func childDigest(w *walker, c child, depth int) string {
	switch {
	case c.out:
		return "out"
	case c.err != nil:
		return "missing"
	case c.info.IsDir():
		return folderDigest(w, c, depth)
	}
	return fileDigest(c.real, c.info)
}
