// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/egret-proxy/egret/credential"
)

func fail(k credential.Kind, err error) *credential.Error {
	return &credential.Error{Kind: k, Err: err}
}

// NotMinted is the error of an answer that holds nothing usable. The format must quote
// nothing of the answer.
func NotMinted(format string, args ...any) error {
	return fail(credential.NotMinted, fmt.Errorf(format, args...))
}

// Within says where a typed error arose, and keeps it the outermost.
func Within(where string, err error) error {
	if e, ok := errors.AsType[*credential.Error](err); ok {
		return &credential.Error{Kind: e.Kind, RetryAfter: e.RetryAfter, Err: fmt.Errorf("%s: %w", where, e.Err)}
	}
	return fail(credential.Unreachable, fmt.Errorf("%s: %w", where, err))
}

// Object decodes a JSON object by the exact names of its members: encoding/json into a
// struct would also take "Access_Token". The answer must be application/json, or of a
// type that ends in +json.
func (a *Answer) Object() (Object, error) {
	mt, _, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if err != nil || mt != "application/json" && !strings.HasSuffix(mt, "+json") {
		return nil, NotMinted("answer must be application/json")
	}
	if !utf8.Valid(a.Body) { // the decoder would replace bytes of the token
		return nil, NotMinted("answer is not UTF-8")
	}
	var o Object
	if json.Unmarshal(a.Body, &o) != nil || o == nil {
		return nil, NotMinted("answer is not a JSON object")
	}
	return o, nil
}

// Object is a JSON object whose members are not decoded yet.
type Object map[string]json.RawMessage

// Text returns a member that is a string, else "".
func (o Object) Text(name string) string {
	var s string
	if json.Unmarshal(o[name], &s) != nil {
		return ""
	}
	return s
}

// Object returns a member that is an object, else nil, on which all methods work.
func (o Object) Object(name string) Object {
	var in Object
	if json.Unmarshal(o[name], &in) != nil {
		return nil
	}
	return in
}

// Bool returns a member that is a boolean, else false.
func (o Object) Bool(name string) bool {
	var b bool
	return json.Unmarshal(o[name], &b) == nil && b
}

// Seconds returns a lifetime that is a number of seconds or (from servers that get it
// wrong) a numeric string. Everything else is zero: not told (MUST C5).
func (o Object) Seconds(name string) time.Duration {
	s := o.Text(name)
	if s == "" {
		s = string(o[name])
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsNaN(f) || f <= 0 {
		return 0
	}
	if f > math.MaxInt64/float64(time.Second)/2 {
		return math.MaxInt64 / 2 // absurd; the Cache sees that
	}
	return max(time.Duration(f*float64(time.Second)), time.Nanosecond) // told, however short
}

// Until returns the lifetime of a member that is a time (RFC 3339), counted from the
// issuer's own clock where the answer has a Date, so that a difference of clocks does
// not count. Zero: not told.
func (a *Answer) Until(o Object, name string) time.Duration {
	t, err := time.Parse(time.RFC3339, o.Text(name))
	if err != nil {
		return 0
	}
	if d := t.Sub(a.now()); d > 0 {
		return d
	}
	return time.Nanosecond // told, and over; not untold
}

// LessAge takes off a lifetime the time for which a cache on the way has held the answer.
func (a *Answer) LessAge(d time.Duration) time.Duration {
	n, err := strconv.ParseUint(a.Header.Get("Age"), 10, 31)
	if d <= 0 || err != nil {
		return d
	}
	return max(d-time.Duration(n)*time.Second, time.Nanosecond) // told, and over; not untold
}

// Refusal words an answer that is not a success, by its status alone: 429, 408 and 5xx
// may pass by themselves, 401 and 403 need a person, the rest is no answer of an issuer.
// codes are the issuer's own error codes that may be told; code, if it is one of them,
// is, and a status of 4xx with one counts as a refusal.
func (a *Answer) Refusal(code string, codes ...string) error {
	e := &credential.Error{RetryAfter: a.RetryAfter(), Err: fmt.Errorf("status %d", a.Status)}
	known := false
	for _, c := range codes {
		known = known || c == code && code != ""
	}
	if known {
		e.Err = fmt.Errorf("status %d, %s", a.Status, code)
	}
	switch s := a.Status; {
	case s == http.StatusTooManyRequests, s == http.StatusRequestTimeout, s >= 500:
		e.Kind = credential.Unreachable
	case s >= 300 && s < 400:
		e.Kind, e.Err = credential.NotMinted, fmt.Errorf("status %d: redirects are not followed", s)
	case s == http.StatusUnauthorized, s == http.StatusForbidden, known && s >= 400:
		e.Kind = credential.Refused
	default:
		e.Kind = credential.NotMinted
	}
	return e
}

// RetryAfter reads seconds or an HTTP date (RFC 9110, 10.2.3). A date is taken against
// the issuer's own clock. The Cache caps the result.
func (a *Answer) RetryAfter() time.Duration {
	s := a.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	t, err := http.ParseTime(s)
	if err != nil {
		return 0
	}
	return max(t.Sub(a.now()), 0)
}

// now is the time of the answer by the issuer's own clock, if it tells, else by ours.
func (a *Answer) now() time.Time {
	if t, err := http.ParseTime(a.Header.Get("Date")); err == nil {
		return t
	}
	if a.sent.IsZero() {
		return time.Now()
	}
	return a.sent
}
