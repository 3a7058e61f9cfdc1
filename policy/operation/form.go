// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// pair is one field of a form or a query.
type pair struct{ name, value string }

var errForm = errors.New("the form can be read in more than one way")

// parsePairs reads application/x-www-form-urlencoded. It refuses what parsers disagree
// about: a raw semicolon, which some take for a separator, escapes that are none, text
// that is not UTF-8, and NUL.
func parsePairs(s string) ([]pair, error) {
	var out []pair
	if s == "" {
		return nil, nil
	}
	if strings.Contains(s, ";") {
		return nil, errForm
	}
	for part := range strings.SplitSeq(s, "&") {
		if part == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(part, "=")
		name, ok1 := unescape(rawName)
		value, ok2 := unescape(rawValue)
		if !ok1 || !ok2 {
			return nil, errForm
		}
		out = append(out, pair{name, value})
	}
	return out, nil
}

// unescape undoes percent escapes and plus signs.
func unescape(s string) (string, bool) {
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			out.WriteByte(' ')
		case c != '%':
			if c < ' ' || c == 0x7f || c == '#' { // some servers trim a line end, and cut a query at #
				return "", false
			}
			out.WriteByte(c)
		default:
			if i+2 >= len(s) {
				return "", false
			}
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if !ok1 || !ok2 || hi<<4|lo == 0 {
				return "", false
			}
			out.WriteByte(hi<<4 | lo)
			i += 2
		}
	}
	return out.String(), utf8.ValidString(out.String())
}

// folded is a field's name as the most lenient server may read it: besides case, PHP
// drops leading spaces, takes "." and " " for "_", and cuts an index ("action[]").
func folded(name string) string {
	name = strings.Trim(name, " \t\r\n\v\f\ufeff")
	if i := strings.IndexByte(name, '['); i >= 0 {
		name = name[:i]
	}
	return strings.NewReplacer(".", "_", " ", "_", "-", "_").Replace(foldCase(name))
}

// foldCase is the lower case of what strings.EqualFold takes for equal: the Kelvin sign
// becomes a k, the long s an s.
func foldCase(s string) string { return strings.ToLower(strings.ToUpper(s)) }

// field returns the value of the one field of this name and whether it is there. A second
// one, or one in another spelling, is an error.
func field(pairs []pair, name string) (string, bool, error) {
	value, found := "", false
	for _, p := range pairs {
		switch {
		case p.name == name && !found:
			value, found = p.value, true
		case p.name == name || folded(p.name) == folded(name):
			return "", false, errors.New("a field stands twice, or in another spelling")
		}
	}
	return value, found, nil
}

// absent refuses fields of these names in a place where a server might prefer them.
func absent(pairs []pair, names ...string) error {
	for _, p := range pairs {
		for _, n := range names {
			if folded(p.name) == folded(n) {
				return errors.New("the query names what the body says")
			}
		}
	}
	return nil
}

var errCharset = errors.New("a form that names its own charset, by _charset_, is read in another one by some servers")

// ownCharset reports the field by which a form names its charset (HTML, 4.10.21.5).
func ownCharset(pairs []pair) bool {
	return slices.ContainsFunc(pairs, func(p pair) bool { return folded(p.name) == "_charset_" })
}

// readForm returns the value of one field: of the query where the method has no body, else
// of a form or a JSON object.
func readForm(r *Request, name string) ([]string, error) {
	query, err := parsePairs(r.Query)
	if err != nil {
		return nil, err
	}
	if ownCharset(query) {
		return nil, errCharset
	}
	if bodiless(r.Method) {
		if err := noBody(r); err != nil {
			return nil, err
		}
		return named(field(query, name))
	}
	if err := absent(query, name); err != nil {
		return nil, err
	}
	t, err := wantType(r.Header, typeForm, typeJSON)
	if err != nil {
		return nil, err
	}
	if t == typeForm {
		pairs, err := parsePairs(string(r.Body))
		if err != nil {
			return nil, err
		}
		if ownCharset(pairs) {
			return nil, errCharset
		}
		return named(field(pairs, name))
	}
	return jsonField(r.Body, name)
}

func jsonField(body []byte, name string) ([]string, error) {
	v, err := jsonBody(body)
	if err != nil {
		return nil, err
	}
	for _, m := range v.members {
		if m.name != name && folded(m.name) == folded(name) {
			return nil, errDuplicate
		}
	}
	m, err := v.member(name)
	return named(m.text, m.kind == jsonString, err)
}

// named makes the result of a field's value.
func named(value string, found bool, err error) ([]string, error) {
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, errors.New("the field that names the operation is not there")
	case !nameOf(value, "-_.:/"):
		return nil, errors.New("the operation's name has bytes other than letters, digits, -_./ and colons")
	}
	return one(value)
}
