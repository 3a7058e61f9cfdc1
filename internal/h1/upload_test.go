// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestUploads(t *testing.T) {
	large := strings.Repeat("0123456789", 30_000)
	for name, x := range map[string]struct {
		body   string
		length int64
	}{
		"length": {"hello", 5}, "chunked": {"hello", -1}, "large": {large, int64(len(large))}, "large, chunked": {large, -1}, "empty, chunked": {"", -1},
	} {
		c, p := pair(t, testClient(), 0)
		got := make(chan string, 1)
		p.answering(func() {
			r := p.head()
			b, err := io.ReadAll(r.Body)
			if err != nil || len(r.Trailer) != 1 == (x.length < 0) {
				t.Errorf("%s: %v %v", name, err, r.Trailer)
			}
			got <- string(b) + r.Trailer.Get("X-Sum")
			p.say(ok2)
		})
		r := post(t.Context(), strings.NewReader(x.body), x.length)
		r.Trailer = http.Header{"X-Sum": {"1"}}
		resp, err := trip(t, c, r)
		_ = read(t, resp, err)
		want := x.body
		if x.length < 0 {
			want += "1"
		}
		if b := <-got; b != want || c.Available() != 1 {
			t.Errorf("%s: %d bytes, want %d; %d free", name, len(b), len(want), c.Available())
		}
	}
}

// An answer that comes before the body has gets through, and its connection is not used
// again while there is a body to send.
func TestAnAnswerBeforeTheBody(t *testing.T) {
	c, p := pair(t, testClient(), 0)
	p.answering(func() { p.head(); p.say("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno") })
	pr, pw := io.Pipe()
	defer pw.Close()
	resp, err := trip(t, c, post(t.Context(), pr, -1))
	if got := read(t, resp, err); got != "no" || resp.StatusCode != 413 || c.Err() == nil {
		t.Errorf("%q %v", got, c.Err())
	}
}

// Both directions at once.
func TestFullDuplex(t *testing.T) {
	c, p := pair(t, testClient(), 0)
	p.answering(func() {
		r := p.head()
		p.say("HTTP/1.1 200 OK\r\n\r\n")
		b := make([]byte, 1)
		for {
			if n, err := r.Body.Read(b); n == 0 || err != nil && err != io.EOF {
				break
			}
			p.say(strings.ToUpper(string(b)))
		}
		_ = p.tls.CloseWrite()
	})
	pr, pw := io.Pipe()
	resp, err := trip(t, c, post(t.Context(), pr, -1))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"a", "b", "c"} {
		_, _ = io.WriteString(pw, s)
		b := make([]byte, 1)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != strings.ToUpper(s) {
			t.Fatalf("%q %v", b, err)
		}
	}
	_ = pw.Close()
	_ = read(t, resp, nil)
}

// Nor does an upload that ends behind the answer's header start the clock for it.
func TestAnUploadThatEndsLateSetsNoDeadline(t *testing.T) {
	c, p := pair(t, NewClient(Options{HeaderBytes: 1 << 10, HeaderTimeout: 200 * time.Millisecond, Informational: 9, Continue: time.Hour}), 0)
	p.answering(func() {
		r := p.head()
		p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
		_, _ = io.Copy(io.Discard, r.Body)
		time.Sleep(400 * time.Millisecond)
		p.say("ok")
	})
	pr, pw := io.Pipe()
	resp, err := trip(t, c, post(t.Context(), pr, -1))
	_ = pw.Close()
	if got := read(t, resp, err); got != "ok" || c.Available() != 1 {
		t.Errorf("%q", got)
	}
}

// A server that refuses a body answers and closes. The answer counts, not the write.
func TestTheAnswerCountsNotTheBrokenUpload(t *testing.T) {
	c, p := pair(t, testClient(), 0)
	p.answering(func() {
		p.head()
		p.say("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		_ = p.tls.CloseWrite()
	})
	resp, err := trip(t, c, post(t.Context(), io.LimitReader(zeros{}, 64<<20), 64<<20))
	if err != nil || resp.StatusCode != 413 {
		t.Fatalf("%v", err)
	}
	_ = read(t, resp, nil)
}

// refusing is a connection that takes a header and no body, and answers after that.
type refusing struct {
	tape
	refused chan struct{}
	wrote   bool
}

func (r *refusing) Write(p []byte) (int, error) {
	if !r.wrote {
		r.wrote = true
		return len(p), nil
	}
	close(r.refused)
	return 0, syscall.EPIPE
}

func (r *refusing) Read(p []byte) (int, error) {
	<-r.refused
	time.Sleep(10 * time.Millisecond)
	if r.closed {
		return 0, net.ErrClosed
	}
	return r.tape.Read(p)
}

func TestABrokenUploadWaitsForTheAnswer(t *testing.T) {
	for answer, want := range map[string]error{"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n": nil, "": syscall.EPIPE} {
		nc := &refusing{tape: tape{in: []byte(answer), piece: 99}, refused: make(chan struct{})}
		c := testClient().New(nc, nil, func() {})
		resp, err := trip(t, c, post(t.Context(), strings.NewReader("body"), 4))
		if !errors.Is(err, want) || err == nil && resp.StatusCode != 413 || c.Err() == nil {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// What is wrong with a body is told before what that does to the connection.
func TestFaultyBodies(t *testing.T) {
	broken := errors.New("broken")
	for name, x := range map[string]struct {
		body   io.Reader
		length int64
		want   error
	}{
		"short":           {strings.NewReader("ab"), 3, ErrBody},
		"long":            {strings.NewReader("abcd"), 3, ErrBody},
		"faulty":          {io.MultiReader(strings.NewReader("ab"), faulty{broken}), 3, broken},
		"faulty, chunked": {faulty{broken}, -1, broken},
		"faulty at end":   {io.MultiReader(strings.NewReader("abc"), faulty{broken}), 3, broken},
		"no end":          {faulty{io.ErrUnexpectedEOF}, -1, io.ErrUnexpectedEOF},
	} {
		c, p := pair(t, testClient(), 0)
		p.answering(func() { r := p.head(); _, _ = io.Copy(io.Discard, r.Body) })
		if _, err := trip(t, c, post(t.Context(), x.body, x.length)); !errors.Is(err, x.want) || c.Err() == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type faulty struct{ err error }

func (f faulty) Read([]byte) (int, error) { return 0, f.err }

func TestTrailersThatAreNotWritten(t *testing.T) {
	for _, value := range []string{"a\r\nb", "\x00"} {
		c, p := pair(t, testClient(), 0)
		p.answering(func() { r := p.head(); _, _ = io.Copy(io.Discard, r.Body) })
		r := post(t.Context(), strings.NewReader("a"), -1)
		r.Trailer = http.Header{"X-Sum": {value}} // it may be known only at the body's end
		if _, err := trip(t, c, r); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", value, err)
		}
	}
}

func TestExpect(t *testing.T) {
	const go100 = "HTTP/1.1 100 Continue\r\n\r\n"
	for name, x := range map[string]struct {
		answer string
		wait   time.Duration
		sent   bool
	}{
		"asked for":       {go100, time.Hour, true},
		"not asked for":   {"", time.Millisecond, true},
		"refused":         {"HTTP/1.1 417 No\r\nConnection: close\r\n\r\n", time.Hour, false},
		"answered, kept":  {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", time.Hour, true},
		"asked for twice": {go100 + go100, time.Hour, true},
	} {
		c, p := pair(t, NewClient(Options{HeaderBytes: 1 << 10, Informational: 9, Continue: x.wait}), 0)
		got := make(chan string, 1)
		p.answering(func() {
			r := p.head()
			p.say(x.answer)
			if !x.sent {
				_ = p.tls.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			}
			b, _ := io.ReadAll(r.Body)
			got <- string(b)
			if !x.sent {
				_ = p.tls.CloseWrite()
			} else if !strings.Contains(x.answer, "Length") {
				p.say(ok2)
			}
		})
		r := post(t.Context(), strings.NewReader("body"), 4)
		r.Header["Expect"] = []string{"100-continue"}
		resp, err := trip(t, c, r)
		_ = read(t, resp, err)
		if b := <-got; (b == "body") != x.sent || (c.Available() == 1) != x.sent {
			t.Errorf("%s: %q, %d free", name, b, c.Available())
		}
	}
}
