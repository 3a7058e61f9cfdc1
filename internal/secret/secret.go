// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package secret holds the one type that may carry a token, password or key
// through egret. It cannot be printed by accident: every way in which the
// standard library turns a value into text (fmt verbs, encoding/json, log/slog,
// text marshalling) yields "[redacted]". It does not encrypt memory; what Go can
// and cannot promise there is written in SECURITY.md.
package secret

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// Redacted is what a Secret looks like wherever it is printed.
const Redacted = "[redacted]"

// Secret is an opaque secret value. The zero value is empty. It is immutable and
// safe for concurrent use.
//
// It is a struct around a pointer, not a string type, because fmt prints the
// content of an unexported string field of any struct with %+v and of map keys
// with %v, while it prints a nested pointer as an address.
type Secret struct{ p *string }

// New wraps s. New("") is the zero Secret.
func New(s string) Secret {
	if s == "" {
		return Secret{}
	}
	return Secret{p: &s}
}

// Reveal returns the secret itself. Every call is a place to review: the value
// may go to the wire or into a computation, never into a log, an error, a metric
// or a file that others can read.
func (s Secret) Reveal() string {
	if s.p == nil {
		return ""
	}
	return *s.p
}

// IsZero reports whether the secret is empty.
func (s Secret) IsZero() bool { return s.p == nil }

// Equal compares in time that does not depend on the content.
func (s Secret) Equal(o Secret) bool {
	return subtle.ConstantTimeCompare([]byte(s.Reveal()), []byte(o.Reveal())) == 1
}

// Fingerprint returns a short name of the secret that may be logged and compared
// across processes: "sha256:" and the first 6 bytes of its SHA-256 in hex. It is
// meant for values of high entropy (API tokens); of a guessable value it would
// confirm a guess. The zero Secret has the empty fingerprint.
func (s Secret) Fingerprint() string {
	if s.p == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(*s.p))
	return "sha256:" + hex.EncodeToString(sum[:6])
}

// Format implements fmt.Formatter for every verb, so that %d, %x and %#v are as
// silent as %s.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Redacted) }

// String implements fmt.Stringer.
func (s Secret) String() string { return Redacted }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return Redacted }

// LogValue implements slog.LogValuer.
func (s Secret) LogValue() slog.Value { return slog.StringValue(Redacted) }

// MarshalText implements encoding.TextMarshaler, which JSON, XML and flag use.
func (s Secret) MarshalText() ([]byte, error) { return []byte(Redacted), nil }

// MarshalJSON implements json.Marshaler.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + Redacted + `"`), nil }

// MarshalYAML implements the marshaller interface of yaml.v3 without importing it.
func (s Secret) MarshalYAML() (any, error) { return Redacted, nil }
