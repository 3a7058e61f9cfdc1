// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"strings"
	"unsafe"
)

// spelled is a value that is looked for in texts in every way that JSON and URLs write it:
// each byte by itself may stand as it is, as %XX, as a JSON escape, or as one inside
// further JSON strings, with more backslashes. Immutable.
type spelled struct {
	text string // without a backslash behind another
	fold bool   // letters in either case
}

// maxRun is how many backslashes may stand before an escape: JSON in JSON in JSON in JSON
// has 8 with the one of the escape.
const maxRun = 15

// longestUnit is the most bytes that one byte is written in.
const longestUnit = maxRun + len("u0000")

func newSpelled(value string, fold bool) spelled {
	if !strings.Contains(value, `\\`) {
		return spelled{value, fold}
	}
	text := make([]byte, 0, len(value))
	for i := range len(value) {
		if value[i] != '\\' || i == 0 || value[i-1] != '\\' {
			text = append(text, value[i])
		}
	}
	return spelled{string(text), fold}
}

// outcome of a comparison. More bytes could make a partial one whole.
type outcome int

const (
	none outcome = iota
	partial
	full
)

// at compares the beginning of b. final: there are no more bytes. n is the length in full.
func (s spelled) at(b string, final bool) (n int, found outcome) { return s.from(0, b, 0, final) }

func (s spelled) from(k int, b string, at int, final bool) (int, outcome) {
	for ; k < len(s.text); k++ {
		n, got := s.unit(s.text[k], b[at:], final)
		if s.text[k] == '%' && got == full && n == 1 { // as it is, or as its escape
			if end, as := s.from(k+1, b, at+1, final); as != none {
				return end, as
			}
			n, got = escape(s.text[k], b[at:], final)
		}
		if got != full {
			return 0, got
		}
		at += n
	}
	return at, full
}

// unit compares one byte of the value.
func (s spelled) unit(c byte, b string, final bool) (int, outcome) {
	switch {
	case b == "":
		return short(final)
	case c == '\\':
		return backslashes(b, final)
	case s.same(b[0], c), b[0] == '+' && c == ' ':
		return 1, full
	case b[0] == '%':
		return s.escape(c, b, final)
	case b[0] != '\\':
		return 0, none
	}
	return s.jsonEscape(c, b, final)
}

// jsonEscape compares what stands behind one backslash or more: text within text doubles
// them.
func (s spelled) jsonEscape(c byte, b string, final bool) (int, outcome) {
	run := 0
	for run < len(b) && b[run] == '\\' {
		run++
	}
	switch {
	case run > maxRun:
		return 0, none
	case run == len(b):
		return short(final)
	case (c == '"' || c == '/' || c == '\'') && b[run] == c:
		return run + 1, full
	case b[run] != 'u':
		return 0, none
	}
	return s.hex(c, b, run+1, 4, final)
}

// backslashes compares a run of them: how many are meant depends on how deep the text is.
func backslashes(b string, final bool) (int, outcome) {
	run := 0
	for run < len(b) && run <= maxRun && b[run] == '\\' {
		run++
	}
	switch {
	case run == 0:
		return escape('\\', b, final)
	case run == len(b) && !final:
		return 0, partial
	case run < len(b) && b[run] == 'u':
		if n, got := (spelled{}).hex('\\', b, run+1, 4, final); got != none {
			return n, got
		}
	}
	return run, full
}

func escape(c byte, b string, final bool) (int, outcome) { return spelled{}.escape(c, b, final) }

func (s spelled) escape(c byte, b string, final bool) (int, outcome) {
	if b[0] != '%' {
		return 0, none
	}
	return s.hex(c, b, 1, 2, final)
}

// hex compares digits in either case.
func (s spelled) hex(c byte, b string, from, digits int, final bool) (int, outcome) {
	v := 0
	for i := from; i < from+digits; i++ {
		if i >= len(b) {
			return short(final)
		}
		d := hexDigit(b[i])
		if d < 0 {
			return 0, none
		}
		v = v<<4 | d
	}
	if v > 0xff || !s.same(byte(v), c) {
		return 0, none
	}
	return from + digits, full
}

func short(final bool) (int, outcome) {
	if final {
		return 0, none
	}
	return 0, partial
}

func hexDigit(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

func (s spelled) same(a, b byte) bool {
	return a == b || s.fold && a^b == 0x20 && (a|0x20) >= 'a' && (a|0x20) <= 'z'
}

// in reports whether a text holds the value.
func (s spelled) in(text string) bool {
	for i := 0; i+len(s.text) <= len(text); i++ {
		if c := text[i]; c == '%' || c == '\\' || c == '+' || s.same(c, s.text[0]) {
			if _, got := s.at(text[i:], true); got == full {
				return true
			}
		}
	}
	return false
}

// mask finds values in a text that comes in pieces. Immutable.
type mask struct {
	values  []spelled
	starts  [256]bool // bytes with which some value may begin
	longest int
}

func newMask(values []string) *mask {
	m := &mask{}
	for _, v := range values {
		if v == "" {
			continue
		}
		s := newSpelled(v, false)
		m.values, m.longest = append(m.values, s), max(m.longest, len(s.text)*longestUnit)
		m.starts[s.text[0]], m.starts['%'], m.starts['\\'] = true, true, true
		if s.text[0] == ' ' {
			m.starts['+'] = true
		}
	}
	return m
}

// find adds the places of all values, which may overlap, and returns how much of the
// window can go: all before what may become a value with more bytes.
func (m *mask) find(window []byte, final bool, spans []span) ([]span, int) {
	text := unsafe.String(unsafe.SliceData(window), len(window)) //nolint:gosec // read only, and not kept
	cut := len(window)
	for i := 0; i < len(text); i++ {
		if !m.starts[text[i]] {
			continue
		}
		for _, v := range m.values {
			switch n, got := v.at(text[i:], final); got {
			case full:
				spans = append(spans, span{i, i + n})
			case partial:
				cut = min(cut, i)
			case none:
			}
		}
	}
	return spans, cut
}
