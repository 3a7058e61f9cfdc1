// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"strings"
	"unicode/utf8"
)

var errGraphQL = errors.New("the document is not GraphQL that can be executed")

// token is a lexical token of GraphQL (October 2021, 2.1). Strings and numbers are read
// and not kept.
type token struct {
	kind tokenKind
	text string // of a name or a punctuator
}

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenPunctuator
	tokenName
	tokenNumber
	tokenString
)

type lexer struct {
	s  string
	at int
}

// ignored skips white space, line ends, commas, comments and byte order marks.
func (l *lexer) ignored() {
	for l.at < len(l.s) {
		switch c := l.s[l.at]; {
		case holds(" \t\r\n,", c):
			l.at++
		case c == '#':
			i := strings.IndexAny(l.s[l.at:], "\r\n")
			if i < 0 {
				i = len(l.s) - l.at
			}
			l.at += i
		case strings.HasPrefix(l.s[l.at:], "\ufeff"):
			l.at += len("\ufeff")
		default:
			return
		}
	}
}

func (l *lexer) next() (token, error) {
	l.ignored()
	rest := l.s[l.at:]
	switch {
	case rest == "":
		return token{}, nil
	case strings.HasPrefix(rest, "..."):
		l.at += 3
		return token{tokenPunctuator, "..."}, nil
	case holds("!$&():=@[]{|}", rest[0]):
		l.at++
		return token{tokenPunctuator, rest[:1]}, nil
	case nameStart(rest[0]):
		return token{tokenName, l.name()}, nil
	case rest[0] == '-' || digit(rest[0]):
		return token{kind: tokenNumber}, l.number()
	case strings.HasPrefix(rest, `"""`):
		return token{kind: tokenString}, l.block()
	case rest[0] == '"':
		return token{kind: tokenString}, l.str()
	}
	return token{}, errGraphQL
}

func nameStart(c byte) bool { return letter(c) || c == '_' }

func (l *lexer) name() string {
	from := l.at
	for l.at < len(l.s) && (nameStart(l.s[l.at]) || digit(l.s[l.at])) {
		l.at++
	}
	return l.s[from:l.at]
}

// number has the grammar of JSON's, and must be followed by no name and no dot.
func (l *lexer) number() error {
	p := jsonParser{s: l.s, at: l.at}
	err := p.number()
	l.at = p.at
	if err != nil || l.at < len(l.s) && (nameStart(l.s[l.at]) || digit(l.s[l.at]) || l.s[l.at] == '.') {
		return errGraphQL
	}
	return nil
}

// str skips a string on one line.
func (l *lexer) str() error {
	for l.at++; l.at < len(l.s); l.at++ {
		switch l.s[l.at] {
		case '"':
			l.at++
			return nil
		case '\n', '\r':
			return errGraphQL
		case '\\':
			if err := l.escape(); err != nil {
				return err
			}
		}
	}
	return errGraphQL
}

// escape consumes an escape but its last byte: one byte, uXXXX, or u{X…}.
func (l *lexer) escape() error {
	l.at++
	rest := l.s[min(l.at, len(l.s)):]
	switch {
	case rest == "":
		return errGraphQL
	case holds(`"\/bfnrt`, rest[0]):
		return nil
	case strings.HasPrefix(rest, "u{"):
		digits, _, ok := strings.Cut(rest[2:], "}")
		if !ok || digits == "" || !hexOnly(digits) {
			return errGraphQL
		}
		l.at += 2 + len(digits)
		return nil
	case len(rest) >= 5 && rest[0] == 'u' && hexOnly(rest[1:5]):
		l.at += 4
		return nil
	}
	return errGraphQL
}

func hexOnly(s string) bool {
	for i := range len(s) {
		if _, ok := unhex(s[i]); !ok {
			return false
		}
	}
	return true
}

// block skips a block string, in which only \""" is an escape.
func (l *lexer) block() error {
	for l.at += 3; l.at < len(l.s); l.at++ {
		switch {
		case strings.HasPrefix(l.s[l.at:], `\"""`):
			l.at += 3
		case strings.HasPrefix(l.s[l.at:], `"""`):
			l.at += 3
			return nil
		}
	}
	return errGraphQL
}

// sourceText refuses what no source text may hold (2.1.1): control bytes, and bytes that
// are not UTF-8.
func sourceText(s string) error {
	for i := range len(s) {
		if s[i] < ' ' && !holds("\t\r\n", s[i]) || s[i] == 0x7f {
			return errGraphQL
		}
	}
	if !utf8.ValidString(s) {
		return errUnicode
	}
	return nil
}
