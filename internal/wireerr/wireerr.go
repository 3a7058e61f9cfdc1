// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package wireerr tells a network error in words that hold nothing of what the peer
// sent. Errors of net/http quote the malformed line, and a peer that was sent a
// credential can put it there: such a text must not reach a log, a record or a screen
// (MUST C9).
package wireerr

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
)

// Wrap returns err with its text replaced by Words; errors.Is and errors.As still see
// what it wraps. A nil err stays nil, and so does io.EOF, which readers compare.
func Wrap(err error) error {
	if err == nil || err == io.EOF { //nolint:errorlint // only the bare value is the end of a stream
		return err
	}
	var done *safe
	if errors.As(err, &done) && error(done) == err { //nolint:errorlint // the outermost error, not one within
		return err
	}
	return &safe{words: Words(err), err: err}
}

// safe never prints err.
type safe struct {
	words string
	err   error
}

func (e *safe) Error() string { return e.words }
func (e *safe) Unwrap() error { return e.err }

// Words says what went wrong: from the operating system, the resolver and the TLS stack
// in their own words, of HTTP in ours.
func Words(err error) string {
	for _, f := range []func(error) string{known, certificate, network, deep} {
		if s := f(err); s != "" {
			return s
		}
	}
	if isTimeout(err) {
		return "timed out"
	}
	return "the peer's answer broke off or was not valid HTTP"
}

// Malformed reports an answer that is not as HTTP has it, so that the next one will hardly
// be better. A connection that broke is something else.
func Malformed(err error) bool {
	words := Words(err)
	for _, about := range [...]string{
		"the peer's status line ", "a header line ", "the peer's response header ", "the peer's Content-Length ", "the peer's Transfer-Encoding ",
		"the peer's chunked coding ", "the peer's trailer ", "the peer's answer was ", "the peer sent ",
	} {
		if strings.HasPrefix(words, about) {
			return true
		}
	}
	return false
}

// deep asks what only texts tell of err and of all that it wraps.
func deep(err error) string {
	if s := cmp.Or(handshake(err), protocol(err)); s != "" {
		return s
	}
	switch w := err.(type) { //nolint:errorlint // this walks the tree itself
	case interface{ Unwrap() error }:
		if in := w.Unwrap(); in != nil {
			return deep(in)
		}
	case interface{ Unwrap() []error }:
		for _, in := range w.Unwrap() {
			if s := deep(in); s != "" {
				return s
			}
		}
	}
	return ""
}

func known(err error) string {
	var done *safe
	switch {
	case err == nil:
		return ""
	case errors.As(err, &done):
		return done.words
	case errors.Is(err, context.Canceled):
		return "given up: nobody waits any more"
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "the peer closed the connection in the middle of its answer"
	case errors.Is(err, io.EOF):
		return "the peer closed the connection"
	case errors.Is(err, net.ErrClosed):
		return "the connection was closed"
	}
	return ""
}

// certificate keeps to the kind of fault: the names in a certificate are the peer's.
func certificate(err error) string {
	var host x509.HostnameError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &host):
		return fmt.Sprintf("x509: certificate is not valid for %q", host.Host)
	case errors.As(err, &authority):
		return "x509: certificate signed by unknown authority"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "x509: certificate has expired or is not yet valid"
	case errors.As(err, &invalid):
		return fmt.Sprintf("x509: certificate is invalid (reason %d of crypto/x509)", invalid.Reason)
	}
	var verify *tls.CertificateVerificationError
	if errors.As(err, &verify) {
		return "x509: certificate was not verified"
	}
	return ""
}

// network names the operation, the address and the cause that the system gave.
func network(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.Error()
	}
	var op *net.OpError
	if !errors.As(err, &op) {
		return errnoWords(err)
	}
	what := op.Op
	if what == "remote error" || what == "local error" { // a TLS alert: words of crypto/tls by number
		return what + ": " + op.Err.Error()
	}
	if op.Addr != nil {
		what += " " + op.Addr.String()
	}
	switch cause := errnoWords(op.Err); {
	case cause != "":
		return what + ": " + cause
	case op.Timeout():
		return what + ": timed out"
	}
	return what + ": failed"
}

func errnoWords(err error) string {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no.Error()
	}
	return ""
}

// handshake keeps the first clause of what crypto/tls says, which is a constant there.
func handshake(err error) string {
	var plain tls.RecordHeaderError
	if errors.As(err, &plain) {
		return "tls: the peer does not speak TLS"
	}
	rest, ok := strings.CutPrefix(err.Error(), "tls: ")
	if !ok {
		return ""
	}
	if i := strings.IndexAny(rest, `:"(`); i >= 0 {
		rest = strings.TrimSpace(rest[:i])
	}
	return "tls: " + rest
}

// protocol recognises what net/http says. It looks from the start of the text, where a
// peer's own bytes cannot stand, and answers in fixed words.
func protocol(err error) string {
	text := strings.TrimPrefix(err.Error(), "net/http: ")
	for _, p := range [...]struct{ prefix, words string }{
		{"HTTP/1.x transport connection broken", faulty(err)},
		{"h1: malformed status line", "the peer's status line was malformed"},
		{"h1: malformed header", "a header line of the peer was malformed"},
		{"h1: header too large", "the peer's response header was too large"},
		{"h1: ambiguous length", "the peer's Content-Length was malformed, or not the only length"},
		{"h1: unsupported transfer coding", "the peer's Transfer-Encoding is not supported"},
		{"h1: malformed chunked coding", "the peer's chunked coding was malformed"},
		{"h1: malformed trailer", "the peer's trailer was malformed"},
		{"h1: too many", "the peer sent too many informational answers"},
		{"h1: the request's body", "the caller's body is not as long as declared"},
		{"h1: the request cannot be written", "the request could not be written"},
		{"h1: closed before", "the peer closed the connection"},
		{"malformed HTTP", "the peer's status line was malformed"},
		{"malformed MIME header", "a header line of the peer was malformed"},
		{"timeout awaiting response headers", "no response header in time"},
		{"server response headers exceeded", "the peer's response header was too large"},
		{"http2: server sent GOAWAY", "the peer ended the HTTP/2 connection (GOAWAY)"},
		{"http2: ", "the peer broke or ended the HTTP/2 connection"},
		{"stream error", "the peer reset the HTTP/2 stream"},
		{"connection error", "the peer broke the HTTP/2 protocol"},
		{"backend tried to switch", "the peer switched to a protocol that was not asked for"},
		{"invalid byte in chunk length", "the peer's chunked coding was malformed"},
		{"malformed chunked encoding", "the peer's chunked coding was malformed"},
		{"chunked", "the peer's chunked coding was malformed"},
		{"http chunk", "the peer's chunked coding was malformed"},
		{"http: server closed idle connection", "the peer closed the kept connection"},
		{"http: server gave HTTP response to HTTPS client", "tls: the peer does not speak TLS"},
	} {
		if strings.HasPrefix(text, p.prefix) {
			return p.words
		}
	}
	return ""
}

// faulty names the part of a response that net/http would not take.
func faulty(err error) string {
	_, cause, _ := strings.Cut(err.Error(), "transport connection broken: ")
	for _, p := range [...]struct{ prefix, words string }{
		{"malformed HTTP", "the peer's status line was malformed"},
		{"malformed MIME header", "a header line of the peer was malformed"},
		{"bad Content-Length", "the peer's Content-Length was malformed"},
		{"http: message cannot contain multiple Content-Length", "the peer sent more than one Content-Length"},
		{"http: suspiciously long trailer", "the peer's trailer was too long"},
		{"unsupported transfer encoding", "the peer's Transfer-Encoding is not supported"},
		{"too many transfer encodings", "the peer's Transfer-Encoding is not supported"},
		{"http: server closed idle", "the peer closed the kept connection"},
	} {
		if strings.HasPrefix(cause, p.prefix) {
			return p.words
		}
	}
	return "the peer's answer was not valid HTTP"
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
