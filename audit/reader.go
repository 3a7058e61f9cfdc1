// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"
)

const (
	maxLine  = 1 << 20                // a longer line is skipped
	maxFound = 64                     // records that one id may have; enough for retried streams
	pollTail = 200 * time.Millisecond // how often Tail looks for more
)

// ErrNotFound: no file holds a record with this id.
var ErrNotFound = errors.New("no record with this id")

// Find returns the records with this request id, oldest first: one for most requests,
// two (start and end) for a stream. It reads the file at path and its rotated siblings,
// newest first, and stops at the first file that settles it. Lines that are no records
// are skipped. Memory is bounded by one line and 64 records.
func Find(path, id string) ([]Record, error) {
	// The current file first, then the list: a rotation in between shows us the same
	// file twice, never not at all.
	found, err := findIn(path, id, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	names, err := rotated(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	for _, name := range slices.Backward(names) {
		if settled(found) {
			break
		}
		found, err = findIn(name, id, found)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // pruned meanwhile
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: %q in %q and its rotated files", ErrNotFound, id, path)
	}
	slices.SortStableFunc(found, func(a, b Record) int { return a.Time.Compare(b.Time) })
	return found, nil
}

// settled: an end alone has its start in an older file.
func settled(found []Record) bool {
	return slices.ContainsFunc(found, func(r Record) bool { return r.Kind != KindStreamEnd })
}

// findIn adds the records with this id to found, each once.
func findIn(path, id string, found []Record) ([]Record, error) {
	f, err := openRegular(path)
	if err != nil {
		return found, err
	}
	defer func() { _ = f.Close() }() // only read
	key := appendString([]byte(`"id":`), id)
	for l := newLines(f); ; {
		line, err := l.next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return found, fmt.Errorf("audit: %w", err)
		}
		var r Record
		if !bytes.Contains(line, key) || json.Unmarshal(line, &r) != nil || r.ID != id {
			continue
		}
		if len(found) < maxFound && !slices.Contains(found, r) {
			found = append(found, r)
		}
	}
}

// Records yields every record of the file at path and its rotated siblings, oldest
// first. A line that is no record yields an error that names file and line, and the
// iteration goes on; an error of reading ends it.
func Records(path string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		seg, err := nextSegment(path, nil)
		for err == nil && seg != nil {
			if !seg.some(yield) {
				seg.close()
				return
			}
			seg, err = seg.successor(path)
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// Tail yields the newest records of the file at path, last of them at most and none
// from rotated files, and then every new one, across rotations, until ctx ends. The
// file need not exist yet. Errors are as with Records.
func Tail(ctx context.Context, path string, last int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		seg, err := awaitSegment(ctx, path)
		if err == nil && seg != nil && !seg.newest(last, yield) {
			seg.close()
			return
		}
		for err == nil && seg != nil {
			seg, err = follow(ctx, path, seg, yield)
		}
		if err != nil {
			yield(Record{}, err)
		}
	}
}

// follow yields what is added to seg and returns the segment after it, nil when ctx or
// the consumer ends. It closes seg.
func follow(ctx context.Context, path string, seg *segment, yield func(Record, error) bool) (*segment, error) {
	for {
		// Look for a successor before reading to the end: what is written after a
		// rotation is in the successor.
		next, err := nextSegment(path, seg.info)
		if err != nil {
			seg.close()
			return nil, err
		}
		more := seg.some(yield)
		if more && next == nil && sleep(ctx, pollTail) {
			continue
		}
		seg.close()
		if !more && next != nil {
			next.close()
			next = nil
		}
		return next, nil
	}
}

// awaitSegment opens the current file, waiting for it to appear.
func awaitSegment(ctx context.Context, path string) (*segment, error) {
	for {
		seg, err := openSegment(path)
		if !errors.Is(err, fs.ErrNotExist) {
			return seg, err
		}
		if !sleep(ctx, pollTail) {
			return nil, nil //nolint:nilnil // no record: the caller went away
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// openRegular opens a file for reading and refuses what could block or never end.
func openRegular(path string) (*os.File, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("audit: %q is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return f, nil
}

// lines reads whole lines. At the end of what is there next returns io.EOF and may be
// called again when there is more: a line without its end is not a record yet.
type lines struct {
	r       *bufio.Reader
	part    []byte
	tooLong bool
	number  int
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns a line without its end, good until the next call.
func (l *lines) next() ([]byte, error) {
	for {
		chunk, err := l.r.ReadSlice('\n')
		l.add(chunk)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return nil, err
		}
		l.number++
		line, skip := bytes.TrimRight(l.part, "\r\n"), l.tooLong
		l.part, l.tooLong = l.part[:0], false
		if !skip && len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lines) add(chunk []byte) {
	if len(l.part)+len(chunk) > maxLine {
		l.part, l.tooLong = l.part[:0], true
	}
	if !l.tooLong {
		l.part = append(l.part, chunk...)
	}
}
