// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxPath is the longest path that is looked at, in bytes.
const MaxPath = 8 << 10

// CheckPath refuses a raw, still encoded request path that two servers could read
// differently (MUST H6). With encoded, segments may hold %2F, %25 and the like, as
// APIs with names inside a segment need; dot segments, NUL and backslash stay refused
// in raw, decoded and twice decoded form. The error is for logs.
func CheckPath(raw string, encoded bool) error {
	if bad := pathProblem(raw, encoded); bad != "" {
		return fmt.Errorf("path %q %s", clip(raw), bad)
	}
	return nil
}

// CheckTemplate refuses a path template that could match no request or is not written
// in canonical form: each segment is a literal or "*" (one segment that is not empty),
// and the last may be "**" (the rest, at least the slash before it).
func CheckTemplate(template string, encoded bool) error {
	sample, err := sampleOf(template)
	if err != nil {
		return err
	}
	if bad := pathProblem(sample, encoded); bad != "" {
		return fmt.Errorf("path template %q %s", clip(template), bad)
	}
	return nil
}

// sampleOf puts a letter in the place of each wildcard.
func sampleOf(template string) (string, error) {
	if len(template) > MaxPath {
		return "", errors.New("path template must have at most 8192 bytes")
	}
	segments := strings.Split(template, "/")
	for i, s := range segments {
		switch {
		case !strings.Contains(s, "*"):
		case s == "*" || s == "**" && i == len(segments)-1:
			segments[i] = "x"
		case s == "**":
			return "", fmt.Errorf("path template %q may have ** only at its end", clip(template))
		default:
			return "", fmt.Errorf("path template %q has %q: * must be a whole segment; a literal star is written %%2A", clip(template), clip(s))
		}
	}
	return strings.Join(segments, "/"), nil
}

// pathProblem says what is wrong with a path, or "".
func pathProblem(raw string, encoded bool) string {
	if ordinary(raw) {
		return ""
	}
	if bad := rawProblem(raw); bad != "" || !strings.Contains(raw, "%") {
		return bad
	}
	if bad := escapeProblem(raw, encoded); bad != "" {
		return bad
	}
	once := unescape(raw)
	if bad := decodedProblem(once); bad != "" || !encoded {
		return bad
	}
	return decodedProblem(unescape(once))
}

// ordinary reports a path that nothing is wrong with, as most are: one look at each byte
// tells. Of another path it tells nothing.
func ordinary(raw string) bool {
	if len(raw) > MaxPath || len(raw) == 0 || raw[0] != '/' {
		return false
	}
	last := byte(0)
	for i := range len(raw) {
		c := raw[i]
		if !ordinaryBytes[c] || last == '/' && (c == '/' || c == '.') {
			return false
		}
		last = c
	}
	return true
}

// ordinaryBytes are those that may stand in a path as they are (RFC 3986, 3.3), without ;
// and the escape.
//
//nolint:gochecknoglobals // a constant table
var ordinaryBytes = func() (set [256]bool) {
	for _, c := range []byte("/ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@") {
		set[c] = true
	}
	return set
}()

func rawProblem(raw string) string {
	switch {
	case len(raw) > MaxPath:
		return "must have at most 8192 bytes"
	case !strings.HasPrefix(raw, "/"):
		return "must begin with /"
	case strings.Contains(raw, "//"):
		return "must not hold //"
	case strings.Contains(raw, ";"):
		return "must not hold ;"
	case strings.ContainsAny(raw, "?#"):
		return "must not hold ? or #"
	}
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] >= 0x7f {
			return "must not hold spaces, control bytes or non-ASCII"
		}
	}
	return commonProblem(raw)
}

// decodedProblem judges a path after decoding, where more bytes are legitimate.
func decodedProblem(s string) string {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return "must not hold encoded NUL or control bytes"
		}
	}
	if !utf8.ValidString(s) {
		return "must not hold escapes that are not UTF-8"
	}
	return commonProblem(s)
}

func commonProblem(s string) string {
	if strings.Contains(s, `\`) {
		return "must not hold a backslash"
	}
	for segment := range strings.SplitSeq(s, "/") {
		name, _, _ := strings.Cut(segment, ";") // Tomcat and others read "..;x" as ".."
		if name == "." || name == ".." {
			return "must not hold dot segments"
		}
	}
	return ""
}

// escapeProblem checks that each % begins an escape and, unless encoded, that none
// stands for a byte with a meaning of its own in a path.
func escapeProblem(raw string, encoded bool) string {
	for i := strings.IndexByte(raw, '%'); i < len(raw); i++ {
		if raw[i] != '%' {
			continue
		}
		c, ok := escapeAt(raw, i)
		if !ok {
			return "must not hold a % that is not followed by two hex digits"
		}
		if !encoded && strings.IndexByte(`./\%;`, c) >= 0 {
			return "must not hold %2E, %2F, %5C, %25 or %3B, unless a rule says encoded: true"
		}
		i += 2
	}
	return ""
}

func escapeAt(s string, i int) (c byte, ok bool) {
	if i+2 >= len(s) {
		return 0, false
	}
	hi, ok1 := unhex(s[i+1])
	lo, ok2 := unhex(s[i+2])
	return hi<<4 | lo, ok1 && ok2
}

func unhex(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unescape decodes percent escapes once and leaves what is not one as it stands.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	return string(appendUnescaped(make([]byte, 0, len(s)), s))
}

func appendUnescaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' {
			if c, ok := escapeAt(s, i); ok {
				b = append(b, c)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}
