// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import "io"

// Sink takes records. A Journal calls it from one goroutine.
type Sink interface {
	// Write takes whole lines. After an error the bytes from n on are given again, in
	// front of newer ones, until they are taken.
	io.WriteCloser
	// Sync makes what was written survive a crash of the machine, as far as the sink
	// can. It is called once a second while there is something to sync, and at the end.
	Sync() error
}

// Stream is a Sink over a stream that belongs to somebody else, such as standard output.
type Stream struct{ w io.Writer }

// NewStream makes a Stream. It does not close w.
func NewStream(w io.Writer) *Stream { return &Stream{w} }

// Write implements Sink.
func (s *Stream) Write(p []byte) (int, error) { return s.w.Write(p) }

// Sync implements Sink: a stream has nothing to sync.
func (s *Stream) Sync() error { return nil }

// Close implements Sink and leaves the stream open.
func (s *Stream) Close() error { return nil }
