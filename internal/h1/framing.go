// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// framing is how the body of an answer ends.
type framing uint8

const (
	none framing = iota
	length
	chunks
	untilClose
)

// frame finds out how the body of an answer to a method ends (RFC 9112, 6.3), and sets
// what hangs on it in resp. What is refused here could be read in two ways.
func frame(resp *http.Response, method string) (framing, error) {
	h := resp.Header
	coded, err := coding(resp)
	if err != nil {
		return none, err
	}
	declared, err := declaredLength(h)
	if err != nil || coded && declared >= 0 {
		return none, ErrFraming
	}
	if resp.Trailer, err = announced(h, coded); err != nil {
		return none, err
	}
	resp.Close = closes(resp)
	resp.ContentLength = declared
	switch {
	case method == http.MethodHead:
		return none, nil
	case resp.StatusCode < 200, resp.StatusCode == http.StatusNoContent, resp.StatusCode == http.StatusNotModified:
		resp.ContentLength = 0
		resp.Close = resp.Close || coded // it must not be, and whoever sends it may send a body, too
		return none, nil
	case coded:
		return chunks, nil
	case declared == 0:
		return none, nil
	case declared > 0:
		return length, nil
	}
	resp.Close = true
	return untilClose, nil
}

// coding reports the chunked coding, takes its field away and refuses any other, and any
// in HTTP/1.0 (RFC 9112, 6.1).
func coding(resp *http.Response) (chunked bool, err error) {
	te, ok := resp.Header["Transfer-Encoding"]
	if !ok {
		return false, nil
	}
	delete(resp.Header, "Transfer-Encoding")
	if len(te) != 1 || !strings.EqualFold(te[0], "chunked") || resp.ProtoMinor == 0 {
		return false, ErrCoding
	}
	return true, nil
}

// declaredLength reads Content-Length, -1 where there is none. Fields that repeat one
// value become one, as net/http has it; a list in one field is refused.
func declaredLength(h http.Header) (int64, error) {
	values, ok := h["Content-Length"]
	if !ok {
		return -1, nil
	}
	for _, v := range values[1:] {
		if v != values[0] {
			return 0, ErrFraming
		}
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return 0, ErrFraming
	}
	h["Content-Length"] = values[:1:1]
	return int64(n), nil
}

// announced reads the names in Trailer and takes the field away, where there can be one.
func announced(h http.Header, coded bool) (http.Header, error) {
	values, ok := h["Trailer"]
	if !ok || !coded {
		return nil, nil //nolint:nilnil // no trailer
	}
	delete(h, "Trailer")
	trailer := http.Header{}
	for _, v := range values {
		for name := range strings.SplitSeq(v, ",") {
			name = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name))
			switch {
			case name == "":
			case !httpguts.ValidHeaderFieldName(name), barred(name):
				return nil, ErrTrailer
			default:
				trailer[name] = nil
			}
		}
	}
	if len(trailer) == 0 {
		return nil, nil //nolint:nilnil // no trailer
	}
	return trailer, nil
}

// barred are names that cannot stand in a trailer: they would change how it was read.
func barred(name string) bool {
	return name == "Transfer-Encoding" || name == "Trailer" || name == "Content-Length"
}

// closes reports whether the connection ends behind the answer (RFC 9112, 9.3).
func closes(resp *http.Response) bool {
	options := resp.Header["Connection"]
	if options == nil {
		return resp.ProtoMinor == 0
	}
	return httpguts.HeaderValuesContainsToken(options, "close") ||
		resp.ProtoMinor == 0 && !httpguts.HeaderValuesContainsToken(options, "keep-alive")
}
