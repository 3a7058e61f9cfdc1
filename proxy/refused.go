// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"mime"
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

// refusedCredential reports whether the SaaS refused our credential: by a 401, or as the
// destination says (Slack answers 200 with {"ok":false,"error":"invalid_auth"}). What it
// reads of the body it puts back.
func refusedCredential(resp *http.Response, how *policy.Refused) bool {
	if resp.StatusCode == http.StatusUnauthorized {
		return true
	}
	if how == nil || len(how.JSON) == 0 || !isJSON(resp.Header) || resp.Body == nil {
		return false
	}
	head, err := peek(resp)
	if err != nil {
		return false
	}
	return matches(unpack(head, resp.Header), how.JSON)
}

func isJSON(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (t == "application/json" || strings.HasSuffix(t, "+json"))
}

// peek reads the first bytes of the body and puts them back in front. It stops as soon as
// they hold a whole value, so that a stream of JSON objects is not held up.
func peek(resp *http.Response) ([]byte, error) {
	head, n := make([]byte, peekBytes), 0
	var err error
	for n < peekBytes && err == nil && !whole(unpack(head[:n], resp.Header)) {
		var m int
		m, err = resp.Body.Read(head[n:])
		n += m
	}
	head = head[:n]
	resp.Body = &joinedBody{Reader: io.MultiReader(bytes.NewReader(head), tail(resp.Body, err)), Closer: resp.Body}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return head, nil
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
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return false
	}
	found := 0
	for dec.More() {
		key, err := dec.Token()
		name, ok := key.(string)
		if err != nil || !ok {
			return false
		}
		var raw json.RawMessage
		if dec.Decode(&raw) != nil {
			return false
		}
		if values, wanted := want[name]; wanted {
			if !slices.Contains(values, scalar(raw)) {
				return false
			}
			if found++; found == len(want) {
				return true
			}
		}
	}
	return false
}

// scalar is the text of a JSON string, or the JSON itself of anything else.
func scalar(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
