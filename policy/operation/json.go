// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The parser of RFC 8259, and of nothing more: no comments, no trailing commas, no byte
// order mark, no NaN. Beyond the RFC it refuses what parsers are known to disagree about:
// a name that stands twice in an object, strings that are not Unicode, deep nesting.

// jsonKind is what a value is.
type jsonKind int

const (
	jsonNull jsonKind = iota
	jsonBool
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

// jsonValue is a parsed value. The elements of arrays are checked and not kept.
type jsonValue struct {
	kind    jsonKind
	text    string // of a string
	members []jsonMember
}

type jsonMember struct {
	name  string
	value jsonValue
}

const maxDepth = 64

var (
	errJSON      = errors.New("the body is not JSON")
	errDuplicate = errors.New("a member stands twice in an object, or in another case")
	errUnicode   = errors.New("the body holds text that is not Unicode")
)

// parseJSON reads one whole document.
func parseJSON(b []byte) (jsonValue, error) {
	if !utf8.Valid(b) {
		return jsonValue{}, errUnicode
	}
	p := jsonParser{s: string(b)}
	v, err := p.value(0)
	if err != nil {
		return jsonValue{}, err
	}
	if p.space(); p.at != len(p.s) {
		return jsonValue{}, errors.New("data follows the JSON document")
	}
	return v, nil
}

// jsonBody reads a body that must be one object.
func jsonBody(b []byte) (jsonValue, error) {
	v, err := parseJSON(b)
	switch {
	case err != nil:
		return v, err
	case v.kind == jsonArray:
		return v, errors.New("the body is a batch")
	case v.kind != jsonObject:
		return v, errors.New("the body is not a JSON object")
	}
	return v, nil
}

// member returns the member of this name, a null where there is none. A name that only
// differs in case is an error: some parsers take it for the same (encoding/json does).
func (v jsonValue) member(name string) (jsonValue, error) {
	var out jsonValue
	for _, m := range v.members {
		switch {
		case m.name == name:
			out = m.value
		case strings.EqualFold(m.name, name):
			return jsonValue{}, errDuplicate
		}
	}
	return out, nil
}

// onlyMembers refuses an object with members that are not known here: another server may
// read the operation from one of them.
func (v jsonValue) onlyMembers(names ...string) error {
	for _, m := range v.members {
		known := false
		for _, n := range names {
			known = known || n == m.name
		}
		if !known {
			return errors.New("the body has a member that this extractor does not know")
		}
	}
	return nil
}

type jsonParser struct {
	s  string
	at int
}

func (p *jsonParser) space() {
	for p.at < len(p.s) && holds(" \t\r\n", p.s[p.at]) {
		p.at++
	}
}

// take consumes the byte c if it comes next.
func (p *jsonParser) take(c byte) bool {
	if p.at < len(p.s) && p.s[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) (jsonValue, error) {
	p.space()
	if depth > maxDepth {
		return jsonValue{}, errors.New("the body is nested too deeply")
	}
	if p.at == len(p.s) {
		return jsonValue{}, errJSON
	}
	switch c := p.s[p.at]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		text, err := p.str()
		return jsonValue{kind: jsonString, text: text}, err
	case c == '-' || digit(c):
		return jsonValue{kind: jsonNumber}, p.number()
	}
	for word, kind := range map[string]jsonKind{"true": jsonBool, "false": jsonBool, "null": jsonNull} {
		if strings.HasPrefix(p.s[p.at:], word) {
			p.at += len(word)
			return jsonValue{kind: kind}, nil
		}
	}
	return jsonValue{}, errJSON
}

func (p *jsonParser) object(depth int) (jsonValue, error) {
	v, seen := jsonValue{kind: jsonObject}, map[string]bool{}
	p.at++
	for p.space(); !p.take('}'); p.space() {
		if len(v.members) > 0 && !p.take(',') {
			return v, errJSON
		}
		m, err := p.memberAt(depth)
		if err != nil {
			return v, err
		}
		if seen[m.name] {
			return v, errDuplicate
		}
		seen[m.name] = true
		v.members = append(v.members, m)
	}
	return v, nil
}

func (p *jsonParser) memberAt(depth int) (m jsonMember, err error) {
	if p.space(); p.at == len(p.s) || p.s[p.at] != '"' {
		return m, errJSON
	}
	if m.name, err = p.str(); err != nil {
		return m, err
	}
	if p.space(); !p.take(':') {
		return m, errJSON
	}
	m.value, err = p.value(depth + 1)
	return m, err
}

func (p *jsonParser) array(depth int) (jsonValue, error) {
	p.at++
	for n := 0; ; n++ {
		if p.space(); p.take(']') {
			return jsonValue{kind: jsonArray}, nil
		}
		if n > 0 && !p.take(',') {
			return jsonValue{}, errJSON
		}
		if _, err := p.value(depth + 1); err != nil {
			return jsonValue{}, err
		}
	}
}

// number consumes a number (RFC 8259, 6).
func (p *jsonParser) number() error {
	p.take('-')
	if !p.take('0') && p.digits() == 0 {
		return errJSON
	}
	if p.take('.') && p.digits() == 0 {
		return errJSON
	}
	if p.take('e') || p.take('E') {
		if !p.take('+') {
			p.take('-')
		}
		if p.digits() == 0 {
			return errJSON
		}
	}
	return nil
}

func (p *jsonParser) digits() (n int) {
	for ; p.at < len(p.s) && digit(p.s[p.at]); p.at++ {
		n++
	}
	return n
}

// str consumes a string and returns what it stands for.
func (p *jsonParser) str() (string, error) {
	var out strings.Builder
	for p.at++; p.at < len(p.s); p.at++ {
		switch c := p.s[p.at]; {
		case c == '"':
			p.at++
			return out.String(), nil
		case c < ' ':
			return "", errJSON
		case c != '\\':
			out.WriteByte(c)
		default:
			if err := p.escape(&out); err != nil {
				return "", err
			}
		}
	}
	return "", errJSON
}

// escape consumes an escape but its last byte.
func (p *jsonParser) escape(out *strings.Builder) error {
	if p.at++; p.at == len(p.s) {
		return errJSON
	}
	if i := strings.IndexByte(`"\/bfnrt`, p.s[p.at]); i >= 0 {
		out.WriteByte("\"\\/\b\f\n\r\t"[i])
		return nil
	}
	r, err := p.unit()
	if err != nil {
		return err
	}
	if utf16.IsSurrogate(r) {
		if p.at+1 >= len(p.s) || p.s[p.at+1] != '\\' {
			return errUnicode
		}
		p.at += 2
		low, err := p.unit()
		if err != nil {
			return err
		}
		if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
			return errUnicode
		}
	}
	out.WriteRune(r)
	return nil
}

// unit consumes uXXXX but its last byte.
func (p *jsonParser) unit() (rune, error) {
	if p.at+5 > len(p.s) || p.s[p.at] != 'u' {
		return 0, errJSON
	}
	var r rune
	for _, c := range []byte(p.s[p.at+1 : p.at+5]) {
		n, ok := unhex(c)
		if !ok {
			return 0, errJSON
		}
		r = r<<4 | rune(n)
	}
	p.at += 4
	return r, nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case digit(c):
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
