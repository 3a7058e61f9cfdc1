// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"bufio"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
)

func TestAnswer(t *testing.T) {
	for _, c := range []struct {
		text, err string
		size      int
	}{
		{"HTTP/1.1 200 OK\r\ncontent-length: 12\r\nServer: x\r\n\r\n", "", 12},
		{"HTTP/1.1 200 Connection established\r\n\r\n", "", 0},
		{"HTTP/1.1 403 Forbidden\r\nContent-Length: 1\r\n\r\nx", `answered "HTTP/1.1 403 Forbidden", want 200`, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "Content-Length", 0},
		{"HTTP/1.1 200 OK\r\n", "EOF", 0},
	} {
		size, err := answer(bufio.NewReader(strings.NewReader(c.text)))
		if size != c.size || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %d, %v; want %d, %s", c.text, size, err, c.size, c.err)
		}
	}
}

func TestParallel(t *testing.T) {
	var sum atomic.Int64
	if err := parallel(t.Context(), 100, func(_ context.Context, i int) error { sum.Add(int64(i)); return nil }); err != nil || sum.Load() != 4950 {
		t.Errorf("sum is %d, %v", sum.Load(), err)
	}
	broken := errors.New("broken")
	if err := parallel(t.Context(), 100, func(_ context.Context, i int) error {
		if i == 50 {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("an error is lost: %v", err)
	}
}

// TestDocuments: no file is larger than egret reads.
func TestDocuments(t *testing.T) {
	d := &documents{}
	d.grants(50000)
	all := 0
	for _, text := range d.texts() {
		n := strings.Count(text, "apiVersion:")
		if all += n; n > perFile {
			t.Errorf("%d objects in a file", n)
		}
	}
	if all != 55000 || len(d.texts()) != 7 {
		t.Errorf("%d objects in %d files", all, len(d.texts()))
	}
}
