// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/policy"
)

// peekBytes is how much of an answer is looked at to see whether the SaaS refused the
// credential; unpacked it may be maxUnpacked.
const (
	peekBytes   = 512
	maxUnpacked = 4 << 10
)

// amzErrorType is where AWS's REST services that speak JSON name an error.
const amzErrorType = "X-Amzn-Errortype"

// refusedCredential reports whether the SaaS refused our credential: by a 401, or as the
// destination says (Slack answers 200 with {"ok":false,"error":"invalid_auth"}, AWS 400 or
// 403 with an error's code). What it reads of the body it puts back.
func refusedCredential(resp *http.Response, how *policy.Refused) bool {
	if resp.StatusCode == http.StatusUnauthorized {
		return true
	}
	if how == nil {
		return false
	}
	var codes []string
	if resp.StatusCode/100 == 4 {
		codes = how.ErrorCodes
	}
	if slices.Contains(codes, bareCode(resp.Header.Get(amzErrorType))) {
		return true
	}
	if resp.Body == nil || len(codes) == 0 && len(how.JSON) == 0 {
		return false
	}
	switch t := mediaType(resp.Header["Content-Type"]); {
	case isJSON(t):
		head := peek(resp, whole)
		return matches(head, how.JSON) || slices.ContainsFunc(jsonCodes(head), func(c string) bool { return slices.Contains(codes, c) })
	case isXML(t) && len(codes) > 0:
		code, _ := xmlCode(peek(resp, func(b []byte) bool { _, more := xmlCode(b); return !more }))
		return slices.Contains(codes, code)
	}
	return false
}

func isJSON(t string) bool {
	return t == "application/json" || strings.HasSuffix(t, "+json") || strings.HasPrefix(t, "application/x-amz-json-")
}

func isXML(t string) bool {
	return t == "application/xml" || t == "text/xml" || strings.HasSuffix(t, "+xml")
}

// peek reads the first bytes of the body, puts them back in front, and returns them
// unpacked; nil where the body broke off. It stops as soon as they are enough, so that a
// stream is not held up.
func peek(resp *http.Response, enough func(unpacked []byte) bool) []byte {
	head, n := make([]byte, peekBytes), 0
	var err error
	for n < peekBytes && err == nil && !enough(unpack(head[:n], resp.Header)) {
		var m int
		m, err = resp.Body.Read(head[n:])
		n += m
	}
	head = head[:n]
	resp.Body = &joinedBody{Reader: io.MultiReader(bytes.NewReader(head), tail(resp.Body, err)), Closer: resp.Body}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	return unpack(head, resp.Header)
}

// whole reports whether b begins with a whole JSON value, or with none.
func whole(b []byte) bool {
	if len(b) == 0 {
		return false
	}
	var v json.RawMessage
	err := json.NewDecoder(bytes.NewReader(b)).Decode(&v)
	return !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF)
}

// tail is what follows the peeked bytes: the rest, nothing, or the error that came.
func tail(body io.Reader, err error) io.Reader {
	switch {
	case err == nil:
		return body
	case errors.Is(err, io.EOF):
		return body // at its end; reading it once more makes the trailers appear
	}
	return errReader{err}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type joinedBody struct {
	io.Reader
	io.Closer
}

// unpack undoes gzip within bounds; other encodings are not asked for.
func unpack(head []byte, h http.Header) []byte {
	if h.Get("Content-Encoding") != "gzip" {
		return head
	}
	z, err := gzip.NewReader(bytes.NewReader(head))
	if err != nil {
		return nil
	}
	out, _ := io.ReadAll(io.LimitReader(z, maxUnpacked)) // cut short is good enough
	return out
}

// matches reports whether the top-level members of a (possibly cut) JSON object hold
// every wanted key with one of its values.
func matches(body []byte, want map[string][]string) bool {
	found := 0
	for name, raw := range members(body) {
		values, wanted := want[name]
		if !wanted {
			continue
		}
		if !slices.Contains(values, scalar(raw)) {
			return false
		}
		if found++; found == len(want) {
			return true
		}
	}
	return false
}

// jsonCodes are the names of the error where AWS's JSON protocols have it: in __type, or
// in code, which some services write with a capital.
func jsonCodes(body []byte) []string {
	var out []string
	for name, raw := range members(body) {
		if name == "__type" || name == "code" || name == "Code" {
			out = append(out, bareCode(scalar(raw)))
		}
	}
	return out
}

// members are those of a (possibly cut) JSON object that are whole.
func members(body []byte) iter.Seq2[string, json.RawMessage] {
	return func(yield func(string, json.RawMessage) bool) {
		dec := json.NewDecoder(bytes.NewReader(body))
		if t, err := dec.Token(); err != nil || t != json.Delim('{') {
			return
		}
		for dec.More() {
			key, err := dec.Token()
			name, ok := key.(string)
			var raw json.RawMessage
			if err != nil || !ok || dec.Decode(&raw) != nil || !yield(name, raw) {
				return
			}
		}
	}
}

// scalar is the text of a JSON string, or the JSON itself of anything else.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// bareCode takes away what AWS's JSON protocols write around a code: a namespace before
// it and a URL behind it (Smithy, AWS JSON 1.0, "Operation error serialization").
func bareCode(s string) string {
	s, _, _ = strings.Cut(s, ":")
	return s[strings.LastIndexByte(s, '#')+1:]
}

// xmlCode returns the Code of the Error of a (possibly cut) XML document, "" where it has
// none, and whether more bytes could tell.
func xmlCode(b []byte) (code string, more bool) {
	in := bytes.NewReader(b) // read byte by byte, so that what is left tells how far the decoder came
	code, err := findCode(xml.NewDecoder(in))
	return code, err != nil && in.Len() == 0
}

// findCode goes down to Error (S3: the root; the query protocol: below ErrorResponse; EC2:
// below Response and Errors) and in it to Code. No error and no code: there is none.
func findCode(dec *xml.Decoder) (string, error) {
	inside := ""
	for {
		t, err := dec.Token()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return "", nil
		case xml.StartElement:
			name := t.Name.Local
			switch {
			case inside == "Error" && name == "Code":
				var code string
				if err := dec.DecodeElement(&code, &t); err != nil {
					return "", err
				}
				return strings.TrimSpace(code), nil
			case inside != "Error" && slices.Contains([]string{"ErrorResponse", "Response", "Errors", "Error"}, name):
				inside = name
			case inside == "":
				return "", nil
			default:
				if err := dec.Skip(); err != nil {
					return "", err
				}
			}
		}
	}
}
