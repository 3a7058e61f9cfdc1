// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"errors"
	"strings"
)

// ErrAmbiguousQuery: the caller's query holds the credential's parameter behind a
// semicolon, which some servers read as a separator and others as part of a value.
// Neither sending nor cutting it is safe, so the request is refused (MUST H4, H6).
var ErrAmbiguousQuery = errors.New("the query holds the credential's parameter after a semicolon")

// ErrCallerSignature: the caller has signed the request in a way that egret cannot replace
// by its own signature, or for another service than the credential's.
var ErrCallerSignature = errors.New("the caller's own signature cannot be replaced")

// replaceParam removes every spelling of the parameter name from a raw query and
// appends name=value, which is already encoded. All other bytes stay as they are.
func replaceParam(raw, name, value string) (string, error) {
	var b strings.Builder
	for rest, more := raw, raw != ""; more; {
		var pair string
		pair, rest, more = strings.Cut(rest, "&")
		if sameParam(pair, name) {
			continue
		}
		for _, part := range strings.Split(pair, ";")[1:] {
			if sameParam(part, name) {
				return "", ErrAmbiguousQuery
			}
		}
		b.WriteString(pair)
		b.WriteByte('&')
	}
	return b.String() + name + "=" + value, nil
}

// sameParam reports whether the raw pair would be read as the parameter name by any of
// the common decoders: percent-encoded, other case, - and . for _, array form (name[]),
// leading blanks (PHP drops them).
func sameParam(pair, name string) bool {
	raw, _, _ := strings.Cut(pair, "=")
	got := unescapeLenient(raw)
	if i := strings.IndexAny(got, "[\x00"); i >= 0 {
		got = got[:i]
	}
	return sameName(paramFold(strings.Trim(got, " \t\r\n\v\f")), paramFold(name))
}

func paramFold(s string) string {
	return strings.NewReplacer(".", "_", " ", "_").Replace(s)
}

// unescapeLenient decodes valid escapes and keeps invalid ones, as most servers do.
func unescapeLenient(s string) string {
	if !strings.ContainsAny(s, "%+") {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+':
			b = append(b, ' ')
		case s[i] == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			b = append(b, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			b = append(b, s[i])
		}
	}
	return string(b)
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&0xf + 9
}
