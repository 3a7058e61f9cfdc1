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
	return &safe{verdict: judge(err), err: err}
}

// verdict is what is told of an error, and whether it is an answer that is not as HTTP has it.
type verdict struct {
	words     string
	malformed bool
}

// safe never prints err.
type safe struct {
	verdict
	err error
}

func (e *safe) Error() string { return e.words }
func (e *safe) Unwrap() error { return e.err }

// Words says what went wrong: from the operating system, the resolver and the TLS stack
// in their own words, of HTTP in ours.
func Words(err error) string { return judge(err).words }

// Malformed reports an answer that is not as HTTP has it, so that the next one will hardly
// be better. A connection that broke is something else.
func Malformed(err error) bool { return judge(err).malformed }

func judge(err error) verdict {
	var done *safe
	if errors.As(err, &done) {
		return done.verdict
	}
	for _, f := range []func(error) string{known, certificate, network} {
		if s := f(err); s != "" {
			return verdict{words: s}
		}
	}
	if v := deep(err); v.words != "" {
		return v
	}
	if isTimeout(err) {
		return verdict{words: "timed out"}
	}
	return verdict{words: "the peer's answer broke off or was not valid HTTP"}
}

// deep asks what only texts tell of err and of all that it wraps.
func deep(err error) verdict {
	if v := cmp.Or(verdict{words: handshake(err)}, protocol(err)); v.words != "" {
		return v
	}
	switch w := err.(type) { //nolint:errorlint // this walks the tree itself
	case interface{ Unwrap() error }:
		if in := w.Unwrap(); in != nil {
			return deep(in)
		}
	case interface{ Unwrap() []error }:
		for _, in := range w.Unwrap() {
			if v := deep(in); v.words != "" {
				return v
			}
		}
	}
	return verdict{}
}

func known(err error) string {
	switch {
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
func protocol(err error) verdict {
	text := strings.TrimPrefix(err.Error(), "net/http: ")
	for _, p := range [...]struct {
		prefix string
		verdict
	}{
		{"HTTP/1.x transport connection broken", faulty(err)},
		{"h1: malformed status line", verdict{"the peer's status line was malformed", true}},
		{"h1: malformed header", verdict{"a header line of the peer was malformed", true}},
		{"h1: header too large", verdict{"the peer's response header was too large", true}},
		{"h1: ambiguous length", verdict{"the peer's Content-Length was malformed, or not the only length", true}},
		{"h1: unsupported transfer coding", verdict{"the peer's Transfer-Encoding is not supported", true}},
		{"h1: malformed chunked coding", verdict{"the peer's chunked coding was malformed", true}},
		{"h1: malformed trailer", verdict{"the peer's trailer was malformed", true}},
		{"h1: too many", verdict{"the peer sent too many informational answers", true}},
		{"h1: the request's body", verdict{"the caller's body is not as long as declared", false}},
		{"h1: the request cannot be written", verdict{"the request could not be written", false}},
		{"h1: closed before", verdict{"the peer closed the connection", false}},
		{"malformed HTTP", verdict{"the peer's status line was malformed", true}},
		{"malformed MIME header", verdict{"a header line of the peer was malformed", true}},
		{"timeout awaiting response headers", verdict{"no response header in time", false}},
		{"server response headers exceeded", verdict{"the peer's response header was too large", true}},
		{"http2: server sent GOAWAY", verdict{"the peer ended the HTTP/2 connection (GOAWAY)", false}},
		{"http2: ", verdict{"the peer broke or ended the HTTP/2 connection", false}},
		{"stream error", verdict{"the peer reset the HTTP/2 stream", false}},
		{"connection error", verdict{"the peer broke the HTTP/2 protocol", false}},
		{"backend tried to switch", verdict{"the peer switched to a protocol that was not asked for", true}},
		{"invalid byte in chunk length", verdict{"the peer's chunked coding was malformed", true}},
		{"malformed chunked encoding", verdict{"the peer's chunked coding was malformed", true}},
		{"chunked", verdict{"the peer's chunked coding was malformed", true}},
		{"http chunk", verdict{"the peer's chunked coding was malformed", true}},
		{"http: server closed idle connection", verdict{"the peer closed the kept connection", false}},
		{"http: server gave HTTP response to HTTPS client", verdict{"tls: the peer does not speak TLS", false}},
	} {
		if strings.HasPrefix(text, p.prefix) {
			return p.verdict
		}
	}
	return verdict{}
}

// faulty names the part of a response that net/http would not take.
func faulty(err error) verdict {
	_, cause, _ := strings.Cut(err.Error(), "transport connection broken: ")
	for _, p := range [...]struct {
		prefix string
		verdict
	}{
		{"malformed HTTP", verdict{"the peer's status line was malformed", true}},
		{"malformed MIME header", verdict{"a header line of the peer was malformed", true}},
		{"bad Content-Length", verdict{"the peer's Content-Length was malformed", true}},
		{"http: message cannot contain multiple Content-Length", verdict{"the peer sent more than one Content-Length", true}},
		{"http: suspiciously long trailer", verdict{"the peer's trailer was too long", true}},
		{"unsupported transfer encoding", verdict{"the peer's Transfer-Encoding is not supported", true}},
		{"too many transfer encodings", verdict{"the peer's Transfer-Encoding is not supported", true}},
		{"http: server closed idle", verdict{"the peer closed the kept connection", false}},
	} {
		if strings.HasPrefix(cause, p.prefix) {
			return p.verdict
		}
	}
	return verdict{"the peer's answer was not valid HTTP", true}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &ne) && ne.Timeout()
}
