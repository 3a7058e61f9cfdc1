// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// timeFormat is RFC 3339 in UTC with exactly six digits, so that lines sort by time.
const timeFormat = "2006-01-02T15:04:05.000000Z"

// AppendJSON appends the record as one JSON object without a line end. The members
// stand in the order of the struct's fields. Times are cut to microseconds, durations
// are whole microseconds (cut towards zero). Every string is safe to print on a
// terminal: see appendString. It allocates only where dst must grow.
func (r *Record) AppendJSON(dst []byte) []byte {
	e := encoder{dst}
	e.str(`{"schema":`, r.Schema)
	e.str(`,"kind":`, r.Kind)
	e.time(`,"time":`, r.Time)
	e.str(`,"id":`, r.ID)
	e.who(r)
	e.what(r)
	e.outcome(r)
	e.cost(r)
	e.opt(`,"proto":`, r.Proto)
	e.opt(`,"upstream_ip":`, r.UpstreamIP)
	e.opt(`,"upstream_request_id":`, r.UpstreamID)
	e.opt(`,"original":`, r.Original)
	if r.OriginalMismatch {
		e.b = append(e.b, `,"original_mismatch":true`...)
	}
	if r.ECH {
		e.b = append(e.b, `,"ech":true`...)
	}
	return append(e.b, '}')
}

// encoder appends members. Keys carry their separator, quotes and colon.
type encoder struct{ b []byte }

func (e *encoder) who(r *Record) {
	e.opt(`,"node":`, r.Node)
	e.opt(`,"listener":`, r.Listener)
	e.opt(`,"pod":`, r.Pod)
	e.opt(`,"workload":`, r.Workload)
	e.opt(`,"evidence":`, r.Evidence)
	e.opt(`,"owner":`, r.Owner)
	e.opt(`,"policy":`, r.Policy)
	e.opt(`,"policy_digest":`, r.PolicyDigest)
	e.opt(`,"policy_set":`, r.PolicySet)
	e.opt(`,"credential":`, r.Credential)
	e.opt(`,"fingerprint":`, r.Fingerprint)
	e.opt(`,"environment":`, r.Environment)
}

func (e *encoder) what(r *Record) {
	e.opt(`,"method":`, r.Method)
	e.opt(`,"host":`, r.Host)
	e.optInt(`,"port":`, int64(r.Port))
	e.opt(`,"path_template":`, r.PathTemplate)
	e.opt(`,"operation":`, r.Operation)
	e.optInt(`,"status":`, int64(r.Status))
}

func (e *encoder) outcome(r *Record) {
	e.str(`,"verdict":`, r.Verdict)
	if r.Observed {
		e.b = append(e.b, `,"observed":true`...)
	}
	e.opt(`,"layer":`, r.Layer)
	e.opt(`,"reason":`, r.Reason)
	e.opt(`,"detail":`, r.Detail)
	e.opt(`,"caller_credential":`, r.CallerCredential)
}

func (e *encoder) cost(r *Record) {
	e.int(`,"bytes_in":`, r.BytesIn)
	e.int(`,"bytes_out":`, r.BytesOut)
	e.int(`,"t_identity":`, r.TIdentity.Microseconds())
	e.int(`,"t_policy":`, r.TPolicy.Microseconds())
	e.int(`,"t_credential":`, r.TCredential.Microseconds())
	e.int(`,"t_upstream":`, r.TUpstream.Microseconds())
	e.int(`,"t_total":`, r.TTotal.Microseconds())
}

func (e *encoder) str(key, v string) {
	e.b = appendString(append(e.b, key...), v)
}

func (e *encoder) opt(key, v string) {
	if v != "" {
		e.str(key, v)
	}
}

func (e *encoder) int(key string, v int64) {
	e.b = strconv.AppendInt(append(e.b, key...), v, 10)
}

func (e *encoder) optInt(key string, v int64) {
	if v != 0 {
		e.int(key, v)
	}
}

func (e *encoder) time(key string, t time.Time) {
	e.b = append(append(e.b, key...), '"')
	e.b = append(appendTime(e.b, t), '"')
}

// appendTime is AppendFormat with timeFormat, which every record would have parsed anew.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, timeFormat)
	}
	hour, minute, second := t.Clock()
	b = append(appendDigits(b, year, 4), '-')
	b = append(appendDigits(b, int(month), 2), '-')
	b = append(appendDigits(b, day, 2), 'T')
	b = append(appendDigits(b, hour, 2), ':')
	b = append(appendDigits(b, minute, 2), ':')
	b = append(appendDigits(b, second, 2), '.')
	return append(appendDigits(b, t.Nanosecond()/1000, 6), 'Z')
}

// appendDigits writes v, which is not negative, in exactly so many digits.
func appendDigits(b []byte, v, digits int) []byte {
	b = append(b, "000000"[:digits]...)
	for i := len(b) - 1; v > 0; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}

// appendString appends s as a JSON string that is one line and harmless on a terminal
// (MUST A2): everything that does not print (C0 and C1 controls, DEL, line separators,
// bidi and other format controls, odd spaces) is a \u escape, and bytes that are not
// UTF-8 become U+FFFD. A JSON reader gets the same text back.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start, i := 0, plainPrefix(s)
	for i < len(s) {
		r, size := rune(s[i]), 1
		if r >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
		}
		if bad := r == utf8.RuneError && size == 1; bad || !plain(r) {
			b = append(b, s[start:i]...)
			b = appendEscape(b, r)
			start = i + size
		}
		i += size
	}
	return append(append(b, s[start:]...), '"')
}

// plainPrefix is the length of the start of s that is plain ASCII: for nearly every
// string, all of it.
func plainPrefix(s string) int {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return i
		}
	}
	return len(s)
}

// plain reports whether r may stand in a JSON string as it is.
func plain(r rune) bool {
	if r < utf8.RuneSelf {
		return r >= ' ' && r != 0x7f && r != '"' && r != '\\'
	}
	return unicode.IsPrint(r)
}

func appendEscape(b []byte, r rune) []byte {
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r == utf8.RuneError:
		return utf8.AppendRune(b, r)
	case r > 0xffff:
		r -= 0x10000 // a surrogate pair, RFC 8259 section 7
		return appendHex4(appendHex4(b, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return appendHex4(b, r)
}

func appendHex4(b []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	return append(b, '\\', 'u', hex[r>>12&15], hex[r>>8&15], hex[r>>4&15], hex[r&15])
}

// MarshalJSON is AppendJSON for encoding/json.
func (r Record) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil), nil }

// UnmarshalJSON reads what AppendJSON wrote. Members that it does not know are
// ignored, so that an older egret reads the records of a newer one.
func (r *Record) UnmarshalJSON(b []byte) error {
	type wire Record // without the methods; durations hold microseconds
	var w wire
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("audit record: %w", err)
	}
	for _, d := range []*time.Duration{&w.TIdentity, &w.TPolicy, &w.TCredential, &w.TUpstream, &w.TTotal} {
		if *d > math.MaxInt64/time.Microsecond || *d < math.MinInt64/time.Microsecond {
			return fmt.Errorf("audit record: %d microseconds is out of range", int64(*d))
		}
		*d *= time.Microsecond //nolint:durationcheck // what was read is a number of microseconds
	}
	*r = Record(w)
	return nil
}
