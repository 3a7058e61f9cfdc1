// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
)

// segment is one open file of the chain: the rotated siblings, oldest first, and the
// current file.
type segment struct {
	f    *os.File
	info os.FileInfo
	l    *lines
}

func openSegment(path string) (*segment, error) {
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &segment{f: f, info: info, l: newLines(f)}, nil
}

func (s *segment) close() { _ = s.f.Close() }

// some yields what is there now. False: the consumer has enough, or reading failed.
func (s *segment) some(yield func(Record, error) bool) bool {
	for {
		r, err := s.record()
		if errors.Is(err, io.EOF) {
			return true
		}
		if !yield(r, err) || errors.As(err, new(*fs.PathError)) {
			return false
		}
	}
}

// newest reads to the end and yields the last n records. Memory is bounded by n. False:
// the consumer has enough, or reading failed.
func (s *segment) newest(n int, yield func(Record, error) bool) bool {
	var ring []Record
	seen := 0
	ok := s.some(func(r Record, err error) bool {
		switch {
		case errors.As(err, new(*fs.PathError)):
			return yield(r, err)
		case err != nil || n <= 0:
			return true
		case len(ring) < n:
			ring = append(ring, r)
		default:
			ring[seen%n] = r
		}
		seen++
		return true
	})
	for i := 0; ok && i < len(ring); i++ {
		ok = yield(ring[(seen+i)%len(ring)], nil)
	}
	return ok
}

// record decodes the next line. io.EOF: no more for now. A *fs.PathError ends the
// segment; other errors are of this line alone.
func (s *segment) record() (Record, error) {
	line, err := s.l.next()
	if err != nil {
		return Record{}, err
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return Record{}, fmt.Errorf("%s:%d: not a record: %w", s.f.Name(), s.l.number, err)
	}
	return r, nil
}

// successor opens the segment after s, nil where there is none, and closes s. Not the
// other way round: while s is open, no new file can have its inode number.
func (s *segment) successor(path string) (*segment, error) {
	defer s.close()
	return nextSegment(path, s.info)
}

// nextSegment opens the file after prev in the chain, the first one where prev is nil,
// and returns nil where prev is the current one. A rotation can move any file between a
// look and an open, so the answer counts only if a second look gives the same file.
func nextSegment(path string, prev os.FileInfo) (*segment, error) {
	for {
		name, err := nextName(path, prev)
		if err != nil || name == "" {
			return nil, err
		}
		seg, err := openSegment(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		again, err := nextName(path, prev)
		if err == nil && isFile(again, seg.info) {
			return seg, nil
		}
		seg.close()
		if err != nil {
			return nil, err
		}
	}
}

// nextName names the file after prev, "" where prev is the current one. Where prev is
// gone (pruned) that is the oldest file left: all of those are newer.
func nextName(path string, prev os.FileInfo) (string, error) {
	names, err := chain(path)
	if err != nil {
		return "", err
	}
	next := 0
	if prev != nil {
		next = 1 + slices.IndexFunc(names, func(name string) bool { return isFile(name, prev) })
	}
	if next == len(names) {
		return "", nil
	}
	return names[next], nil
}

func isFile(name string, info os.FileInfo) bool {
	fi, err := os.Stat(name)
	return err == nil && os.SameFile(fi, info)
}

// chain names the files there are, oldest first. It lists twice, so that a rotation
// between the list and the look at the current file does not hide a file.
func chain(path string) ([]string, error) {
	before, err := rotated(path)
	for err == nil {
		_, serr := os.Stat(path)
		var after []string
		if after, err = rotated(path); err == nil && slices.Equal(before, after) {
			if serr == nil {
				after = append(after, path)
			}
			return after, nil
		}
		before = after
	}
	return nil, fmt.Errorf("audit: %w", err)
}
