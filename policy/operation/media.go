// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"errors"
	"mime"
	"strings"
)

// Media types that are read.
const (
	typeForm    = "application/x-www-form-urlencoded"
	typeJSON    = "application/json"
	typeGraphQL = "application/graphql"
	typeCBOR    = "application/cbor"
)

// values returns all values of a header in every spelling that some server takes for it:
// case folded, with "_" and "-" alike.
func values(h map[string][]string, name string) []string {
	var out []string
	for k, v := range h {
		if len(k) == len(name) && strings.EqualFold(strings.ReplaceAll(k, "_", "-"), name) {
			out = append(out, v...)
		}
	}
	return out
}

// only returns the one value of a header, "" where it is absent. Two are an error even
// where they agree: a server may join them.
func only(h map[string][]string, name string) (string, error) {
	v := values(h, name)
	switch len(v) {
	case 0:
		return "", nil
	case 1:
		return strings.Trim(v[0], " \t"), nil
	}
	return "", errors.New("a header that tells how to read the request stands twice")
}

// plainEncoding refuses bodies that are not sent as they are.
func plainEncoding(h map[string][]string) error {
	for _, v := range values(h, "Content-Encoding") {
		if v = strings.Trim(v, " \t"); v != "" && !strings.EqualFold(v, "identity") {
			return errors.New("the body has a content encoding")
		}
	}
	return nil
}

// mediaType returns the type of the body in lower case, without parameters. It takes no
// parameter but charset, and no charset but UTF-8.
func mediaType(h map[string][]string) (string, error) {
	v, err := only(h, "Content-Type")
	if err != nil {
		return "", err
	}
	if v == "" {
		return "", errors.New("there is no content type")
	}
	t, params, err := mime.ParseMediaType(v)
	if err != nil {
		return "", errors.New("the content type cannot be read")
	}
	for name, value := range params {
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			return "", errors.New("the content type has a parameter other than charset=utf-8")
		}
	}
	return t, nil
}

// wantType checks that the body is of one of the types.
func wantType(h map[string][]string, types ...string) (string, error) {
	t, err := mediaType(h)
	if err != nil {
		return "", err
	}
	for _, w := range types {
		if t == w {
			return t, nil
		}
	}
	return "", errors.New("the content type is not one that this extractor reads")
}

// bodiless reports methods of which servers read the query.
func bodiless(method string) bool { return method == "GET" || method == "HEAD" }

// noBody refuses a body where the server may or may not read it.
func noBody(r *Request) error {
	if len(r.Body) > 0 {
		return errors.New("a request of this method must have no body")
	}
	return nil
}
