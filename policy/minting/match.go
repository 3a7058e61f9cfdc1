// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package minting

import (
	"strconv"
	"strings"
	"unicode"
)

// rounds is how often a path is decoded at most: a gateway decodes once, the server
// behind it again.
const rounds = 4

// decode undoes percent escapes until none is left, as a chain of servers may, and folds
// letters beyond ASCII that some servers take for ASCII ones.
func decode(s string) string {
	for range rounds {
		s = unescape(s)
	}
	return strings.NewReplacer("\u017f", "s", "\u212a", "k", "\u0131", "i").Replace(s)
}

// unescape undoes the percent escapes of a path once and leaves what is none.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				out = append(out, byte(n))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	return string(out)
}

// appendSegments splits a path at its slashes.
func appendSegments(out []string, path string) []string {
	for path != "" {
		s, rest, _ := strings.Cut(path, "/")
		out, path = appendSegment(out, s), rest
	}
	return out
}

// appendSegment adds a segment as a lenient server reads it: parameters behind a
// semicolon, spaces and control bytes around it and full stops at its end do not count,
// nor does an empty one.
func appendSegment(out []string, s string) []string {
	if i := strings.IndexByte(s, ';'); i >= 0 {
		s = s[:i]
	}
	s = strings.TrimLeftFunc(s, blank)
	s = strings.TrimRightFunc(s, func(r rune) bool { return r == '.' || blank(r) })
	if s == "" {
		return out
	}
	return append(out, s)
}

// blank reports what some server trims.
func blank(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\ufeff' }

// ends are the bytes at which a server ends a path, or a name, that it decodes before it
// looks for them: a query, a fragment, the end of a string in C.
const ends = "?#\x00"

// ended returns what stands before the first of ends.
func ended(s string) string {
	if i := strings.IndexAny(s, ends); i >= 0 {
		return s[:i]
	}
	return s
}

// match holds the segments of a path against those of a template. It goes back to the
// last ** only, which is enough, and so takes time in the product of both lengths at most.
func match(template, path []string) bool {
	t, p, star, from := 0, 0, -1, 0
	for p < len(path) {
		switch {
		case t < len(template) && template[t] == "**":
			star, from = t, p
			t++
		case t < len(template) && segment(template[t], path[p], p == len(path)-1):
			t, p = t+1, p+1
		case star >= 0:
			from++
			t, p = star+1, from
		default:
			return false
		}
	}
	for t < len(template) && template[t] == "**" {
		t++
	}
	return t == len(template)
}

// segment holds one segment against its template, the last one also without extension.
func segment(template, s string, last bool) bool {
	if glob(template, s) {
		return true
	}
	dot := strings.LastIndexByte(s, '.')
	return last && dot > 0 && glob(template, s[:dot])
}

// glob is match for bytes: * stands for any of them, and case does not count. The pattern
// is in lower case.
func glob(pattern, s string) bool {
	t, p, star, from := 0, 0, -1, 0
	for p < len(s) {
		switch {
		case t < len(pattern) && pattern[t] == '*':
			star, from = t, p
			t++
		case t < len(pattern) && pattern[t] == lower(s[p]):
			t, p = t+1, p+1
		case star >= 0:
			from++
			t, p = star+1, from
		default:
			return false
		}
	}
	for t < len(pattern) && pattern[t] == '*' {
		t++
	}
	return t == len(pattern)
}

func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		return c + 'A' - 'a'
	}
	return c
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
