// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bytes"
	"io"
	"maps"
)

// Bounds of what is no data in a chunked body, as net/http has them.
const (
	maxChunkLine = 4095     // size and extensions, with the CR
	maxExcess    = 16 << 10 // beyond 16 bytes per chunk and twice its data
	maxTrailer   = 4096
)

// chunked is the state of a chunked body (RFC 9112, 7.1).
type chunked struct {
	left   uint64 // of the chunk
	inside bool   // between chunk and its CRLF
	excess int64
}

// readChunks reads data of a chunked body. The end of the last chunk's trailer is io.EOF.
// It does not wait for more once it has something.
func (x *call) readChunks(p []byte) (n int, err error) {
	for n < len(p) {
		if x.chunks.left == 0 {
			if n > 0 && !x.lineAhead() {
				return n, nil
			}
			if err := x.nextChunk(); err != nil {
				return n, err
			}
			continue
		}
		if n > 0 && x.in.buffered() == 0 {
			return n, nil
		}
		part := p[n:]
		if uint64(len(part)) > x.chunks.left {
			part = part[:x.chunks.left]
		}
		m, err := x.in.Read(part)
		n += m
		x.chunks.left -= uint64(m)
		if err != nil {
			return n, unexpected(err)
		}
	}
	return n, nil
}

// lineAhead reports whether the end of a chunk and the next one's size can be read
// without waiting.
func (x *call) lineAhead() bool {
	ahead := x.in.buf[x.in.r:x.in.w]
	if x.chunks.inside {
		if len(ahead) < 2 {
			return false
		}
		ahead = ahead[2:]
	}
	return bytes.IndexByte(ahead, '\n') >= 0
}

// nextChunk reads the end of a chunk and the size of the next one.
func (x *call) nextChunk() error {
	c := &x.chunks
	if c.inside {
		if line, err := x.in.line(len("\r")); err != nil {
			return err
		} else if len(line) > 0 {
			return ErrChunk
		}
		c.inside = false
	}
	line, err := x.in.line(maxChunkLine)
	if err != nil {
		return err
	}
	if c.left, err = chunkSize(line); err != nil {
		return err
	}
	c.excess = max(0, c.excess+int64(len(line))+2-16-2*int64(min(c.left, 1<<40)))
	switch {
	case c.excess > maxExcess:
		return ErrChunk
	case c.left == 0:
		return x.readTrailer()
	}
	c.inside = true
	return nil
}

// chunkSize reads a size and drops extensions, which nobody knows what to do with.
func chunkSize(line []byte) (n uint64, err error) {
	digits, _, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(";"))
	if len(digits) == 0 || len(digits) > 16 {
		return 0, ErrChunk
	}
	for _, c := range digits {
		switch {
		case digit(c):
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, ErrChunk
		}
		n = n<<4 | uint64(c)
	}
	return n, nil
}

// readTrailer reads what is behind the last chunk. It returns io.EOF.
func (x *call) readTrailer() error {
	for x.in.buffered() < 2 {
		if x.in.w == len(x.in.buf) {
			x.in.room(maxTrailer)
		}
		if err := x.in.fill(); err != nil {
			return unexpected(err)
		}
	}
	if ahead := x.in.buf[x.in.r:]; ahead[0] == '\r' && ahead[1] == '\n' {
		x.in.r += 2
		return io.EOF
	}
	block, err := x.in.block(maxTrailer)
	if err != nil {
		return unexpected(err)
	}
	if bytes.Count(block, []byte("\n")) != bytes.Count(block, []byte("\r\n")) {
		return ErrTrailer
	}
	h, err := parseFields(string(block))
	if err != nil {
		return ErrTrailer
	}
	if x.resp.Trailer == nil {
		x.resp.Trailer = h
	} else {
		maps.Copy(x.resp.Trailer, h)
	}
	return io.EOF
}
