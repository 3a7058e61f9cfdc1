// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/policy"
)

// bodyCredential refuses a request whose body carries a credential of the caller's own,
// at destinations that take one there (Slack: token). Unlike an extractor it reads as
// leniently as any server might: it looks for what must not be there (MUST H4, H16).
func (x *exchange) bodyCredential(rule *policy.Rule) *refusal {
	if rule.Credential == nil || rule.Destination == nil || len(rule.Destination.BodyCredentials) == 0 {
		return nil
	}
	types := x.r.Header["Content-Type"]
	if len(types) == 1 && opaque(types[0]) {
		return nil
	}
	body, err := x.peek()
	if gone := x.gone(err); gone != nil {
		return gone
	}
	switch name := carried(body, mediaType(types), rule.Destination.BodyCredentials); {
	case err != nil:
		return refuse(reasonBodyCredential, fmt.Errorf("what it holds cannot be told: %w", err))
	case len(body) == 0:
		return nil
	case !legible(x.r.Header) || wide(body):
		return refuse(reasonBodyCredential, errors.New("what it holds cannot be told: it is compressed, or in a charset of its own"))
	case name != "":
		return refuse(reasonBodyCredential, fmt.Errorf("field %q", name))
	}
	return nil
}

// opaque reports media types of bodies in which no server looks for fields.
func opaque(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	main, _, _ := strings.Cut(t, "/")
	return slices.Contains([]string{"image", "audio", "video", "font"}, main) ||
		strings.HasPrefix(t, "application/grpc")
}

// legible reports whether bytes of ASCII in a body stand for themselves.
func legible(h map[string][]string) bool {
	for name, values := range h {
		for _, v := range values {
			v = strings.ToLower(v)
			switch plainName(name) {
			case "content-encoding":
				if v != "" && v != "identity" {
					return false
				}
			case "content-type":
				if strings.Contains(v, "utf-16") || strings.Contains(v, "utf-32") || strings.Contains(v, "utf-7") || strings.Contains(v, "ebcdic") || strings.Contains(v, "ucs") {
					return false
				}
			}
		}
	}
	return true
}

// wide reports text of more than a byte for each of ASCII, or another code for it, by what
// it begins with (XML 1.0, appendix F).
func wide(body []byte) bool {
	head := body[:min(len(body), 256)]
	switch {
	case bytes.HasPrefix(head, []byte{0xfe, 0xff}), bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0, 0, 0xfe, 0xff}):
		return true
	case len(head) > 3 && (head[0] == 0 || head[1] == 0) && bytes.ContainsAny(head[:4], "<{["):
		return true
	case bytes.HasPrefix(head, []byte{0x4c, 0x6f, 0xa7, 0x94}): // <?xm in EBCDIC
		return true
	}
	decl, _, found := bytes.Cut(bytes.ToLower(head), []byte("?>"))
	return found && (bytes.Contains(decl, []byte("utf-7")) || bytes.Contains(decl, []byte("ebcdic")) || bytes.Contains(decl, []byte("ibm0")))
}

// mediaType is the body's type in lower case, "" where it is none that is clear.
func mediaType(types []string) string {
	if len(types) != 1 {
		return ""
	}
	t, _, err := mime.ParseMediaType(types[0])
	if err != nil {
		return ""
	}
	return t
}

// carried returns the first of the names that a body holds as a field, "" for none. A body
// of a type that is not clear is read in every way.
func carried(body []byte, mediaType string, names []string) string {
	bad := func(n string) bool {
		return slices.ContainsFunc(names, func(w string) bool { return plainParam(w) == plainParam(n) })
	}
	switch {
	case mediaType == "application/x-www-form-urlencoded":
		return formField(body, bad)
	case mediaType == "application/json":
		return jsonMember(body, bad)
	case mediaType == "multipart/form-data":
		return partName(body, bad)
	}
	return cmp.Or(formField(body, bad), jsonMember(body, bad), partName(body, bad), word(body, bad))
}

// word looks for a name that stands by itself, as names do in XML, YAML and most others.
func word(body []byte, bad func(string) bool) string {
	for w := range bytes.FieldsFuncSeq(body, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	}) {
		if w := strings.Trim(string(w), "-."); bad(w) {
			return plainParam(w)
		}
	}
	return ""
}

// formField looks at the body as a form. What overrides the method is refused with it.
func formField(body []byte, bad func(string) bool) (found string) {
	eachParam(string(bytes.TrimSpace(body)), func(name string) bool {
		if bad(name) || isOverride(plainParam(name)) {
			found = plainParam(name)
		}
		return found == ""
	})
	return found
}

// jsonMember looks at every member of every object.
func jsonMember(body []byte, bad func(string) bool) string {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return quotedName(body, bad)
	}
	return memberOf(v, bad)
}

func memberOf(v any, bad func(string) bool) (found string) {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if bad(name) {
				return plainParam(name)
			}
			found = cmp.Or(found, memberOf(member, bad))
		}
	case []any:
		for _, e := range v {
			found = cmp.Or(found, memberOf(e, bad))
		}
	}
	return found
}

// quotedName looks for a quoted name in what only looks like JSON.
func quotedName(body []byte, bad func(string) bool) string {
	if b := bytes.TrimSpace(body); len(b) == 0 || b[0] != '{' && b[0] != '[' {
		return ""
	}
	for _, part := range strings.FieldsFunc(string(body), func(r rune) bool { return r == '"' || r == '\'' }) {
		if bad(part) {
			return plainParam(part)
		}
	}
	return ""
}

// partName looks for name=token in the headers of parts, in every way to write it.
func partName(body []byte, bad func(string) bool) string {
	rest := strings.ToLower(string(body))
	for {
		_, after, ok := strings.Cut(rest, "name")
		if !ok {
			return ""
		}
		rest = after
		value, ok := strings.CutPrefix(strings.TrimLeft(after, "* \t0"), "=")
		if !ok {
			continue
		}
		value = strings.TrimLeft(value, " \t\"'")
		if i := strings.LastIndex(value[:min(len(value), 32)], "''"); i >= 0 { // name*=utf-8''token
			value = value[i+2:]
		}
		if i := strings.IndexAny(value, "\"';\r\n"); i >= 0 {
			value = value[:i]
		}
		if bad(value) {
			return plainParam(value)
		}
	}
}
