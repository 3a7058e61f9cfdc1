// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"context"
	"errors"
)

// What is wrong with an answer. None of the texts holds a byte of what the peer sent.
var (
	ErrStatusLine = errors.New("h1: malformed status line")
	ErrHeader     = errors.New("h1: malformed header field")
	ErrTooLarge   = errors.New("h1: header too large")
	ErrFraming    = errors.New("h1: ambiguous length")
	ErrCoding     = errors.New("h1: unsupported transfer coding")
	ErrChunk      = errors.New("h1: malformed chunked coding")
	ErrTrailer    = errors.New("h1: malformed trailer")
	ErrTooMany    = errors.New("h1: too many informational answers")
)

// What is wrong with a request, or with the use of a connection.
var (
	ErrRequest = errors.New("h1: the request cannot be written")
	ErrBody    = errors.New("h1: the request's body is not as long as declared")
	ErrClosed  = errors.New("h1: connection closed")
	ErrBusy    = errors.New("h1: connection in use")
)

// ErrUnanswered is matched by errors of a request to which no byte of an answer came,
// because the connection was closed. It may have been carried out all the same.
var ErrUnanswered = errors.New("h1: closed before an answer")

// unanswered is ErrUnanswered with its cause.
type unanswered struct{ err error }

func (e *unanswered) Error() string   { return ErrUnanswered.Error() }
func (e *unanswered) Unwrap() []error { return []error{ErrUnanswered, e.err} }

// slow is a header that did not come in time.
type slow struct{}

func (slow) Error() string        { return "timeout awaiting response headers" } // as net/http has it
func (slow) Timeout() bool        { return true }
func (slow) Temporary() bool      { return true }
func (slow) Is(target error) bool { return target == context.DeadlineExceeded }
