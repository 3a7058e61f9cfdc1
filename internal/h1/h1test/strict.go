// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package h1test has what tests of package h1 and of its users share: hostile answers, and
// the list of what we refuse although net/http takes it.
package h1test

import (
	"regexp"
	"strings"
)

// strict are the kinds of answers that net/http takes and we refuse, each with its reason. The
// expressions read the bytes, so that no parser judges itself; they may find too much.
//
//nolint:gochecknoglobals // a constant table
var strict = []struct {
	reason string
	finds  *regexp.Regexp
}{
	{"obs-fold (RFC 9112, 5.2): others take the line for a field, or for the body", regexp.MustCompile(`\n[ \t]`)},
	{"a space in a field name (RFC 9112, 5.1): others take \"Transfer-Encoding :\" for the field", regexp.MustCompile(`\n[^:\n]* [^:\n]*:`)},
	{"Transfer-Encoding in HTTP/1.0 (RFC 9112, 6.1): net/http looks away", regexp.MustCompile(`(?is)HTTP/1\.0.*\ntransfer-encoding:`)},
	{"Transfer-Encoding and Content-Length (RFC 9112, 6.3): smuggling, or a broken server", regexp.MustCompile(`(?is)\ntransfer-encoding:.*\ncontent-length:|\ncontent-length:.*\ntransfer-encoding:`)},
	{"a name in Trailer that is none", regexp.MustCompile(`(?i)\ntrailer:.*[^\n]`)},
	{"a trailer with a bare LF (RFC 9112, 7.1)", regexp.MustCompile(`(?s)\n0[0 \t]*(;[^\r\n]*)?\r\n(.*[^\r])?\n`)},
	{"too many informational answers", regexp.MustCompile(`(?s)(HTTP/1\.. 1.*){99}`)},
}

// status is a status line of RFC 9112, 4, whose reason may be left out with its space.
var status = regexp.MustCompile(`\AHTTP/1\.[0-9] [1-9][0-9][0-9]( [\t -~\x80-\xff]*)?\r?\n`)

// Strict returns why we may refuse an answer that net/http takes, "" where there is no reason.
func Strict(answer []byte) string {
	for _, part := range regexp.MustCompile(`\n\r?\n`).Split(string(answer), -1) {
		if strings.HasPrefix(part, "HTTP/") && !status.MatchString(part+"\n") {
			return "a status line that is not that of HTTP/1: other versions, signs and spaces in the status, control characters in the reason"
		}
	}
	for _, s := range strict {
		if s.finds.Match(answer) {
			return s.reason
		}
	}
	return ""
}
