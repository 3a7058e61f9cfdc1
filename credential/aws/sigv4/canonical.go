// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

type canonicalOptions struct {
	double  bool   // every service but S3: paths are normalised and encoded once more
	payload string // what stands for the body
	pick    func(name string) bool
}

// canonicalRequest makes what AWS calls so ("Create a canonical request" in the IAM User
// Guide), and the list of signed headers. r is not changed: what goes to the wire is not
// what is normalised here.
func canonicalRequest(r *http.Request, o canonicalOptions) (creq []byte, signed string, err error) {
	path, err := canonicalPath(wirePath(r.URL), o.double)
	if err != nil {
		return nil, "", err
	}
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return nil, "", err
	}
	fields := canonicalHeaders(r, o.pick)
	b := make([]byte, 0, 1024)
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	for _, line := range [...]string{method, path, query} {
		b = append(append(b, line...), '\n')
	}
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
		b = append(append(b, f.name...), ':')
		b = append(append(b, f.value...), '\n')
	}
	signed = strings.Join(names, ";")
	b = append(append(append(b, '\n'), signed...), '\n')
	return append(b, o.payload...), signed, nil
}

// wirePath is the path as net/http will write it.
func wirePath(u *url.URL) string {
	if u.Opaque != "" {
		return u.Opaque
	}
	if p := u.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

// canonicalPath encodes a path of the wire. S3 decodes a path once and encodes it by its
// own table, so that a client that leaves "(" as it is signs the same as one that writes
// %28; an encoded slash stays one, since it does on the wire. Everyone else encodes the
// normalised bytes of the wire once more.
func canonicalPath(wire string, double bool) (string, error) {
	if !strings.HasPrefix(wire, "/") {
		return "", refuse("path %q must begin with a slash", clip(wire))
	}
	if double {
		return encode(normalise(wire), true), nil
	}
	if plain(wire, true) {
		return wire, nil
	}
	if strings.Contains(wire, "+") {
		return "", refuse("path %q has a plus sign, which S3 reads as a space and other stores do not: send %%2B or %%20", clip(wire))
	}
	var b strings.Builder
	for i, segment := range strings.Split(wire, "/") {
		if i > 0 {
			b.WriteByte('/')
		}
		text, err := url.PathUnescape(segment)
		if err != nil {
			return "", refuse("path %q has a percent sign that begins no escape", clip(wire))
		}
		b.WriteString(encode(text, false))
	}
	return b.String(), nil
}

// normalise removes empty and dot segments (RFC 3986, 5.2.4, and double slashes).
func normalise(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	var out []string
	last := ""
	for _, s := range strings.Split(path, "/") {
		last = s
		switch s {
		case "", ".":
		case "..":
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, s)
		}
	}
	clean := "/" + strings.Join(out, "/")
	if len(out) > 0 && (last == "" || last == "." || last == "..") {
		clean += "/"
	}
	return clean
}

type pair struct{ name, value string }

// canonicalQuery sorts the parameters by name and value as they are encoded. A plus sign
// is a space, as AWS and all its SDKs have it.
func canonicalQuery(raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	var pairs []pair
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		n, err1 := url.QueryUnescape(name)
		v, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return "", refuse("the query has a percent sign that begins no escape")
		}
		pairs = append(pairs, pair{encode(n, false), encode(v, false)})
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	var b strings.Builder
	b.Grow(len(raw) + 16)
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p.name + "=" + p.value)
	}
	return b.String(), nil
}

// canonicalHeaders returns the picked fields by their lower-case names, sorted; values
// are trimmed, runs of spaces are one, several values are joined by commas.
func canonicalHeaders(r *http.Request, pick func(string) bool) []pair {
	fields := make([]pair, 0, len(r.Header)+2)
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	fields = append(fields, pair{"host", host})
	if r.ContentLength > 0 && pick("content-length") {
		fields = append(fields, pair{"content-length", strconv.FormatInt(r.ContentLength, 10)})
	}
	keys := make([]string, 0, len(r.Header))
	for k := range r.Header {
		keys = append(keys, k)
	}
	slices.Sort(keys) // several spellings of one name are joined in a fixed order
	for _, k := range keys {
		name := strings.ToLower(k)
		if name == "host" || name == "content-length" || !pick(name) {
			continue
		}
		fields = append(fields, pair{name, joinValues(r.Header[k])})
	}
	slices.SortStableFunc(fields, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	return mergeSame(fields)
}

func mergeSame(fields []pair) []pair {
	out := fields[:0]
	for _, f := range fields {
		if n := len(out); n > 0 && out[n-1].name == f.name {
			out[n-1].value += "," + f.value
			continue
		}
		out = append(out, f)
	}
	return out
}

// mustSign picks what S3 insists on and what says how the body is read. Other headers
// are left out as SDKs leave them out: proxies change User-Agent, Accept-Encoding,
// Expect and the like.
func mustSign(name string) bool {
	switch name {
	case "content-type", "content-md5", "content-length":
		return true
	}
	return strings.HasPrefix(name, "x-amz-")
}

func joinValues(values []string) string {
	if len(values) == 1 {
		return squeeze(values[0])
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = squeeze(v)
	}
	return strings.Join(out, ",")
}

func squeeze(v string) string {
	v = strings.Trim(v, " \t")
	if !strings.Contains(v, "  ") {
		return v
	}
	b := make([]byte, 0, len(v))
	for i := range len(v) {
		if v[i] == ' ' && v[i-1] == ' ' { // not the first: it is trimmed
			continue
		}
		b = append(b, v[i])
	}
	return string(b)
}

// unreserved is the set of RFC 3986, 2.3: the only bytes that AWS does not encode.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~'
}

func plain(s string, slash bool) bool {
	for i := range len(s) {
		if !unreserved(s[i]) && (!slash || s[i] != '/') {
			return false
		}
	}
	return true
}

// encode is UriEncode of AWS' documentation; slash keeps slashes.
func encode(s string, slash bool) string {
	if plain(s, slash) {
		return s
	}
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+32)
	for i := range len(s) {
		if c := s[i]; unreserved(c) || slash && c == '/' {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return string(b)
}

// clip shortens what is quoted in an error.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
