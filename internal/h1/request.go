// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Sizes of buffers.
const (
	readBuffer  = 4 << 10
	headBuffer  = 2 << 10
	largestHead = 64 << 10 // of one that is kept
	bodyBuffer  = 32 << 10
)

// scratch is what a call needs of memory until its answer is read.
type scratch struct {
	in    [readBuffer]byte
	head  []byte   // of the request
	names []string // of its fields
}

func (cl *Client) getScratch() *scratch {
	if s, ok := cl.scratch.Get().(*scratch); ok {
		return s
	}
	return &scratch{head: make([]byte, 0, headBuffer)}
}

// putScratch takes it back without what it held.
func (cl *Client) putScratch(s *scratch) {
	if cap(s.head) > largestHead {
		return
	}
	clear(s.in[:])
	clear(s.head)
	clear(s.names)
	s.head, s.names = s.head[:0], s.names[:0]
	cl.scratch.Put(s)
}

// writeHead makes the header of a request (RFC 9112, 3): Host, User-Agent, what frames
// the body, and the rest in order of names. It refuses everything that could be read as
// something else than what it is.
func (s *scratch) writeHead(req *http.Request) error {
	target := req.URL.RequestURI()
	switch {
	case !httpguts.ValidHeaderFieldName(req.Method): // it is a token, too
		return fmt.Errorf("%w: method %q", ErrRequest, req.Method)
	case req.Host == "" || !httpguts.ValidHostHeader(req.Host):
		return fmt.Errorf("%w: host %q", ErrRequest, req.Host)
	case target == "" || strings.IndexFunc(target, func(r rune) bool { return r <= ' ' || r == 0x7f }) >= 0:
		return fmt.Errorf("%w: the target holds a space or a control character", ErrRequest)
	case req.ContentLength != 0 && req.Body == nil:
		return fmt.Errorf("%w: a length and no body", ErrRequest)
	}
	s.add(req.Method, " ", target, " HTTP/1.1\r\nHost: ", req.Host, "\r\n")
	if agent := req.Header["User-Agent"]; len(agent) > 0 && agent[0] != "" {
		s.field("User-Agent", agent[0])
	}
	if err := s.writeFraming(req); err != nil {
		return err
	}
	if err := s.writeFields(req.Header); err != nil {
		return err
	}
	s.add("\r\n")
	return nil
}

func (s *scratch) add(parts ...string) {
	for _, p := range parts {
		s.head = append(s.head, p...)
	}
}

func (s *scratch) field(name, value string) { s.add(name, ": ", textproto.TrimString(value), "\r\n") }

// writeFraming says how long the body is. Some servers want that of a POST without one, too.
func (s *scratch) writeFraming(req *http.Request) error {
	switch n := outgoing(req); {
	case n < 0:
		s.add("Transfer-Encoding: chunked\r\n")
		return s.announce(req.Trailer)
	case n > 0 || req.Method == http.MethodPost || req.Method == http.MethodPut || req.Method == http.MethodPatch:
		s.add("Content-Length: ")
		s.head = strconv.AppendInt(s.head, n, 10)
		s.add("\r\n")
	}
	return nil
}

// announce writes the names of trailers.
func (s *scratch) announce(trailer http.Header) error {
	if len(trailer) == 0 {
		return nil
	}
	names := make([]string, 0, len(trailer))
	for name := range trailer {
		if name = http.CanonicalHeaderKey(name); barred(name) || !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%w: trailer %q", ErrRequest, name)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	s.field("Trailer", strings.Join(names, ","))
	return nil
}

// writeFields writes all fields but those that have been written, or must not be.
func (s *scratch) writeFields(h http.Header) error {
	for name, values := range h {
		if !httpguts.ValidHeaderFieldName(name) {
			return fmt.Errorf("%w: field name %q", ErrRequest, name)
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) { // it may be a secret
				return fmt.Errorf("%w: the value of field %q holds a control character", ErrRequest, name)
			}
		}
		switch name {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		default:
			s.names = append(s.names, name)
		}
	}
	slices.Sort(s.names)
	for _, name := range s.names {
		for _, v := range h[name] {
			s.field(name, v)
		}
	}
	return nil
}

func hasBody(req *http.Request) bool { return req.Body != nil && req.Body != http.NoBody }

// outgoing returns the length of a request's body, -1 where it is not known.
func outgoing(req *http.Request) int64 {
	switch {
	case !hasBody(req):
		return 0
	case len(req.TransferEncoding) > 0 && req.TransferEncoding[0] == "chunked", req.ContentLength <= 0:
		return -1
	}
	return req.ContentLength
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}
