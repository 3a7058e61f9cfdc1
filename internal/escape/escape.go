// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package escape makes text safe for the place where it is printed: one function for
// each kind of sink (MUST A2). Host names, paths, IDs and error texts are written by
// strangers; none may move a terminal's cursor, start a spreadsheet formula, open a
// tag or break out of a table cell. JSON has its own escaper in package audit.
//
// All functions are pure. In every sink what does not print (controls, line breaks,
// bidi and other format characters, odd spaces, bytes that are not UTF-8) is shown as
// a Go escape such as \n, \x1b or \u202e, so that one value is one line and nothing is
// invisible.
package escape

import (
	"html"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Terminal makes s safe to print on a terminal or in a plain log line. A backslash is
// doubled, so that the output tells exactly what s was: with quotes escaped and put
// around it, it is a Go string literal of s.
func Terminal(s string) string { return visible(strings.ReplaceAll(s, `\`, `\\`)) }

// CSV makes s one quoted field of RFC 4180. A field that a spreadsheet would take for a
// formula (it begins with =, +, -, @, a tab or a line break, also behind spaces or in
// full width) gets an apostrophe in front, which spreadsheets show as text.
func CSV(s string) string {
	text := visible(s)
	if isFormula(s) {
		text = "'" + text
	}
	return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
}

func isFormula(s string) bool {
	if s == "" {
		return false
	}
	first := strings.TrimSpace(s)
	return strings.IndexByte("\t\r\n", s[0]) >= 0 ||
		strings.IndexAny(first, "=+-@＝＋－＠") == 0
}

// HTML makes s safe as text and inside a quoted attribute.
func HTML(s string) string { return html.EscapeString(visible(s)) }

// Markdown makes s plain text inside a cell of a GitHub-flavoured table: no markup, no
// tag, no link, no template, no end of the cell.
func Markdown(s string) string {
	var b strings.Builder
	for _, r := range visible(s) {
		switch r {
		case '<', '>', '&', '{', '}', '|': // not left to what a renderer makes of a backslash
			b.WriteString("&#" + strconv.Itoa(int(r)) + ";")
			continue
		case '\\', '`', '*', '_', '[', ']', '(', ')', '!', '~', '#', '$', '^', ':', '.', '@':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// DOT makes s a quoted string of the Graphviz language. It cannot end the string, nor
// use the escapes of labels (\N, \G, \l).
func DOT(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(visible(s)) + `"`
}

// visible shows what does not print as an escape.
func visible(s string) string {
	if clean(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case strconv.IsPrint(r) && (r != utf8.RuneError || size > 1):
			b.WriteString(s[i : i+size])
		default:
			// Of an invalid byte Quote makes \xNN, of a rune the shortest escape.
			q := strconv.Quote(s[i : i+size])
			b.WriteString(q[1 : len(q)-1])
		}
		i += size
	}
	return b.String()
}

// clean reports whether s is printable ASCII, as nearly everything is.
func clean(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
