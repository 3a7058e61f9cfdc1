// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"

	"github.com/egret-proxy/egret/internal/h1/h1test"
)

// tape is a connection that plays an answer in pieces and records what is written.
type tape struct {
	net.Conn
	in     []byte
	piece  int
	out    bytes.Buffer
	closed bool
}

func (t *tape) Read(p []byte) (int, error) {
	if len(t.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.in[:min(len(t.in), t.piece)])
	t.in = t.in[n:]
	return n, nil
}

func (t *tape) Write(p []byte) (int, error)      { return t.out.Write(p) }
func (t *tape) Close() error                     { t.closed = true; return nil }
func (t *tape) SetDeadline(time.Time) error      { return nil }
func (t *tape) SetReadDeadline(time.Time) error  { return nil }
func (t *tape) SetWriteDeadline(time.Time) error { return nil }

func testClient() *Client {
	return NewClient(Options{HeaderBytes: 256 << 10, Informational: 100, Continue: time.Second})
}

// outcome is what can be told of an answer.
type outcome struct {
	Early          []string
	Status         int
	Header         http.Header
	Length         int64
	Close          bool
	Body           string
	Trailer        http.Header
	HeadErr, Broke bool
	free           bool // the connection can be used again
	err            error
}

type early struct{ got []string }

func (e *early) Early(code int, h http.Header) error {
	e.got = append(e.got, fmt.Sprint(code, h))
	return nil
}

func ours(method string, answer []byte, piece int) (o outcome) {
	c := testClient().New(&tape{in: answer, piece: piece}, nil, func() {})
	_ = c.Reserve()
	req := &http.Request{Method: method, URL: &url.URL{Path: "/"}, Host: "a.example", Header: http.Header{}}
	e := &early{}
	resp, err := c.RoundTrip(req, e)
	o.Early = e.got
	if err != nil {
		o.HeadErr, o.err = true, err
		return o
	}
	o.Status, o.Header, o.Length, o.Close = resp.StatusCode, resp.Header, resp.ContentLength, resp.Close
	b, err := io.ReadAll(resp.Body)
	o.Broke, o.err = err != nil, err
	if err == nil {
		o.Body, o.Trailer = string(b), resp.Trailer
	}
	o.free = c.Available() == 1
	return o
}

func theirs(method string, answer []byte) (o outcome) {
	br := bufio.NewReader(bytes.NewReader(answer))
	req := &http.Request{Method: method}
	for {
		resp, err := http.ReadResponse(br, req)
		if err != nil {
			o.HeadErr, o.err = true, err
			return o
		}
		if resp.StatusCode/100 == 1 && resp.StatusCode != 101 {
			o.Early = append(o.Early, fmt.Sprint(resp.StatusCode, resp.Header))
			continue
		}
		o.Status, o.Header, o.Length, o.Close = resp.StatusCode, resp.Header, resp.ContentLength, resp.Close
		b, err := io.ReadAll(resp.Body)
		o.Broke, o.err = err != nil, err
		if err == nil {
			o.Body, o.Trailer = string(b), resp.Trailer
		}
		o.free = err == nil && !resp.Close && resp.StatusCode != 101 && br.Buffered() == 0
		return o
	}
}

// same makes theirs as ours is where the difference is meant.
func same(o, t *outcome) {
	if t.Close && len(o.Header["Connection"]) > 0 && t.Header["Connection"] == nil {
		o.Header = maps.Clone(o.Header) // net/http takes the whole field away, and who forwards never learns what else it named
		delete(o.Header, "Connection")
	}
	for i := range min(len(o.Early), len(t.Early)) { // likewise
		if strings.Contains(strings.ToLower(o.Early[i]), "connection") {
			o.Early[i], t.Early[i] = "", ""
		}
	}
	t.Close = t.Close || o.Close && (o.Status == 101 || o.Status == 204 || o.Status == 304) // a coding where there is no body
	if o.HeadErr && o.err != nil {
		o.Early, t.Early = nil, nil
	}
}

func checkAnswer(t *testing.T, method string, answer []byte) {
	t.Helper()
	o, want := ours(method, answer, len(answer)+1), theirs(method, answer)
	if bytewise := ours(method, answer, 1); len(answer) < 2048 {
		bytewise.free, bytewise.err = o.free, o.err
		if d := cmp.Diff(fmt.Sprintf("%+v", o), fmt.Sprintf("%+v", bytewise)); d != "" {
			t.Errorf("%q %q: it depends on how it comes\n%s", method, answer, d)
		}
	}
	refused, taken := o.HeadErr || o.Broke, !want.HeadErr && !want.Broke
	if refused && taken {
		if h1test.Strict(answer) == "" {
			t.Errorf("%s %q: net/http takes it, we do not: %v", method, answer, o.err)
		}
		return
	}
	if o.free && !want.free {
		t.Errorf("%s %q: the connection goes on, net/http's does not", method, answer)
	}
	if refused && !taken {
		return
	}
	same(&o, &want)
	o.free, o.err, want.free, want.err = false, nil, false, nil
	if fmt.Sprintf("%+v", o) != fmt.Sprintf("%+v", want) {
		t.Errorf("%s %q (-net/http +ours)\n%s", method, answer, cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", o)))
	}
}

// FuzzAnswer holds our reading of answers to net/http's: what it refuses we refuse, and
// what we take we take for the same.
func FuzzAnswer(f *testing.F) {
	for _, a := range h1test.Answers() {
		f.Add(false, []byte(a))
		f.Add(true, []byte(a))
	}
	f.Fuzz(func(t *testing.T, head bool, answer []byte) {
		if len(answer) > 4000 { // net/http's own limits begin
			return
		}
		checkAnswer(t, map[bool]string{true: http.MethodHead, false: http.MethodGet}[head], answer)
	})
}

// FuzzBlock checks that the end of a header is found wherever reads end, and nothing
// behind it is touched.
func FuzzBlock(f *testing.F) {
	f.Add([]byte("a: b\r\n\r\nrest"), 3)
	f.Add([]byte("a\n\nb"), 1)
	f.Add([]byte("\r\n\r\n\n"), 2)
	f.Fuzz(func(t *testing.T, in []byte, piece int) {
		r := reader{src: &tape{in: in, piece: max(1, piece)}, buf: make([]byte, 16)}
		block, err := r.block(1 << 10)
		if err != nil {
			return
		}
		block = bytes.Clone(block)
		if !bytes.HasPrefix(in, block) || len(block) > 1<<10 || !regexp.MustCompile(`\n\r?\n\z`).Match(block) || regexp.MustCompile(`\n\r?\n[\s\S]`).Match(block[:len(block)-1]) && !regexp.MustCompile(`\n\r?\n\z`).Match(block) {
			t.Errorf("%q of %q", block, in)
		}
		rest, _ := io.ReadAll(&r)
		if !bytes.Equal(append(block, rest...), in) {
			t.Errorf("%q and %q of %q", block, rest, in)
		}
	})
}

// FuzzRequest checks that what is written is byte for byte what net/http writes, and is
// read as nothing else than what it is.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/a?b", "a.example", "X-A", "1", "X-B", "2", int64(0))
	f.Add("POST", "/", "a.example:8443", "Content-Length", "9", "Host", "evil", int64(2))
	f.Add("PATCH", "/%2f", "[::1]", "Transfer-Encoding", "chunked", "x\r\ny", "a\r\nb", int64(-1))
	f.Add("G T", "/ HTTP/1.1\r\nX: y", "a b", "User-Agent", " a ", "Trailer", "x", int64(1))
	f.Fuzz(func(t *testing.T, method, target, host, name1, value1, name2, value2 string, n int64) {
		req := &http.Request{Method: method, URL: &url.URL{Scheme: "https", Opaque: target}, Host: host, Header: http.Header{"User-Agent": {""}}}
		req.Header[name1] = append(req.Header[name1], value1)
		req.Header[name2] = append(req.Header[name2], value2)
		if n %= 3; n != 0 {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader("ab")), n
		}
		var s scratch
		if s.writeHead(req) != nil {
			return
		}
		var want bytes.Buffer
		head := *req
		if err := head.Write(&want); err != nil && req.ContentLength == 0 {
			t.Fatalf("net/http would not write %q: %v", s.head, err)
		}
		theirHead, _, _ := bytes.Cut(want.Bytes(), []byte("\r\n\r\n"))
		if got := bytes.TrimSuffix(s.head, []byte("\r\n\r\n")); !bytes.Equal(got, theirHead) {
			t.Errorf("%q, net/http writes %q", got, theirHead)
		}
		if bytes.Count(s.head, []byte("\r\n\r\n")) != 1 || bytes.Count(s.head, []byte("\n")) != bytes.Count(s.head, []byte("\r\n")) {
			t.Errorf("%q", s.head)
		}
		for name := range req.Header {
			if !httpguts.ValidHeaderFieldName(name) {
				t.Errorf("field %q was written", name)
			}
		}
	})
}
