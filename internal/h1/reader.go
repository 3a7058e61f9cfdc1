// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bytes"
	"io"
)

// reader reads heads, lines and bodies from a connection. What it has read ahead stands
// between r and w of buf.
type reader struct {
	src  io.Reader
	buf  []byte
	r, w int
}

func (b *reader) buffered() int { return b.w - b.r }

// fill reads more behind what is there. There must be room.
func (b *reader) fill() error {
	for range 100 { // as bufio has it: a source that returns nothing over and over is broken
		n, err := b.src.Read(b.buf[b.w:])
		b.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// room makes room for more, up to a window of limit bytes.
func (b *reader) room(limit int) {
	if b.r > 0 {
		b.w = copy(b.buf, b.buf[b.r:b.w])
		b.r = 0
	}
	if b.w == len(b.buf) {
		grown := make([]byte, min(2*len(b.buf), limit+len(b.buf)))
		copy(grown, b.buf[:b.w])
		b.buf = grown
	}
}

// block reads up to an empty line and returns everything with it, at most limit bytes. It is
// good until the next call. io.EOF means that there was not a single byte.
func (b *reader) block(limit int) ([]byte, error) {
	for from := 0; ; {
		var end int
		if end, from = blockEnd(b.buf[b.r:b.w], from); end > 0 && end <= limit {
			head := b.buf[b.r : b.r+end]
			b.r += end
			return head, nil
		}
		if end > limit || b.buffered() > limit {
			return nil, ErrTooLarge
		}
		if b.w == len(b.buf) {
			b.room(limit)
		}
		if err := b.fill(); err != nil {
			if err == io.EOF && b.buffered() > 0 { //nolint:errorlint // readers return the bare value
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// blockEnd returns where the first empty line ends, 0 where there is none yet; then next
// is where to go on looking. A line ends with LF, as net/http has it (RFC 9112, 2.2);
// a CR before it belongs to the end, any other is left to be refused.
func blockEnd(b []byte, from int) (end, next int) {
	for {
		i := bytes.IndexByte(b[from:], '\n')
		if i < 0 {
			return 0, len(b)
		}
		i += from
		switch rest := b[i+1:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 2, 0
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 3, 0
		case len(rest) == 0, len(rest) == 1 && rest[0] == '\r':
			return 0, i
		}
		from = i + 1
	}
}

// line reads a line that ends with CRLF, and returns it without, at most limit bytes. It is
// good until the next call.
func (b *reader) line(limit int) ([]byte, error) {
	for from := 0; ; {
		if i := bytes.IndexByte(b.buf[b.r+from:b.w], '\n'); i >= 0 {
			line := b.buf[b.r : b.r+from+i]
			b.r += from + i + 1
			if len(line) == 0 || len(line) > limit || bytes.IndexByte(line, '\r') != len(line)-1 {
				return nil, ErrChunk
			}
			return line[:len(line)-1], nil
		}
		if from = b.buffered(); from > limit {
			return nil, ErrChunk
		}
		if b.w == len(b.buf) {
			b.room(limit)
		}
		if err := b.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// Read implements io.Reader: what was read ahead, and then straight from the connection.
func (b *reader) Read(p []byte) (int, error) {
	if b.r == b.w {
		if len(p) >= len(b.buf) {
			return b.src.Read(p)
		}
		b.r, b.w = 0, 0
		if err := b.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.buf[b.r:b.w])
	b.r += n
	return n, nil
}

// unexpected is err where the end of the connection is not the end of what is read.
func unexpected(err error) error {
	if err == io.EOF { //nolint:errorlint // readers return the bare value
		return io.ErrUnexpectedEOF
	}
	return err
}
