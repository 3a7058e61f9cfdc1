// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

const ok2 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func versions(t *testing.T, f func(t *testing.T, version uint16)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { f(t, v) })
	}
}

func TestAConnectionIsKept(t *testing.T) {
	versions(t, func(t *testing.T, v uint16) {
		c, p := pair(t, testClient(), v)
		p.answering(func() {
			for range 3 {
				p.head()
				p.say(ok2)
			}
		})
		for range 3 {
			if err := c.Reserve(); err != nil {
				t.Fatal(err)
			}
			if !c.Sound() { // session tickets wait to be read before the first answer
				t.Fatal("not sound")
			}
			resp, err := c.RoundTrip(get(t.Context()), nil)
			if got := read(t, resp, err); got != "ok" || c.Available() != 1 {
				t.Errorf("%q, %d free", got, c.Available())
			}
		}
	})
}

// What the peer said unasked, or that it closed, is found before the connection is used
// again, wherever the bytes are by then: in the kernel, inside TLS, or read ahead.
func TestAKeptConnectionThatSpeaksIsNotUsed(t *testing.T) {
	for name, extra := range map[string]func(p *peer){
		"closed":           func(p *peer) { _ = p.tls.Close() },
		"closed below":     func(p *peer) { _ = p.tls.NetConn().Close() },
		"answer":           func(p *peer) { p.say(ok2) },
		"one byte":         func(p *peer) { p.say("H") },
		"time-out (408)":   func(p *peer) { p.say("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"); _ = p.tls.Close() },
		"half of an alert": func(p *peer) { _, _ = p.tls.NetConn().Write([]byte{21, 3, 3, 0, 2}); _ = p.tls.NetConn().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			versions(t, func(t *testing.T, v uint16) {
				c, p := pair(t, testClient(), v)
				p.answering(func() { p.head(); p.say(ok2); extra(p) })
				resp, err := trip(t, c, get(t.Context()))
				_ = read(t, resp, err)
				eventually(t, "it is found out", func() bool {
					return c.Reserve() != nil || !c.Sound() || func() bool { c.Release(); return false }()
				})
			})
		})
	}
}

// Bytes that come in one TLS record with the answer cost the connection at once.
func TestBytesBehindAnAnswerCloseTheConnection(t *testing.T) {
	for name, answer := range map[string]string{
		"length":     ok2 + "HTTP/1.1 200 OK\r\n\r\nfor the next one",
		"none":       "HTTP/1.1 204 No Content\r\n\r\nx",
		"chunks":     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nx",
		"long":       "HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + strings.Repeat("x", 9000) + ok2,
		"until end":  "HTTP/1.1 200 OK\r\n\r\nok",
		"said so":    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"as in 1990": "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"switched":   "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
	} {
		c, p := pair(t, testClient(), 0)
		p.answering(func() { p.head(); p.say(answer); _ = p.tls.CloseWrite() })
		resp, err := trip(t, c, get(t.Context()))
		_ = read(t, resp, err)
		if c.Reserve() == nil && c.Sound() {
			t.Errorf("%s: it goes on", name)
		}
	}
}

// Whoever sends a coding where there is no body may send a body, too, later.
func TestACodingWithoutABodyClosesTheConnection(t *testing.T) {
	for _, status := range []string{"204 No Content", "304 Not Modified"} {
		o := ours(http.MethodGet, []byte("HTTP/1.1 "+status+"\r\nTransfer-Encoding: chunked\r\n\r\n"), 999)
		if plain := ours(http.MethodGet, []byte("HTTP/1.1 "+status+"\r\n\r\n"), 999); o.free || !plain.free {
			t.Errorf("%s: it goes on: %t, without a coding %t", status, o.free, plain.free)
		}
	}
}

func TestABodyThatIsNotReadCostsTheConnection(t *testing.T) {
	c, p := pair(t, testClient(), 0)
	p.answering(func() { p.head(); p.say(ok2) })
	resp, err := trip(t, c, get(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 9)); !errors.Is(err, ErrClosed) || c.Err() == nil {
		t.Errorf("%v, %v", err, c.Err())
	}
}

// Whoever reads an old answer late gets nothing of the next one.
func TestAnOldBodyLetsGoOfTheConnection(t *testing.T) {
	c, p := pair(t, testClient(), 0)
	p.answering(func() { p.head(); p.say(ok2); p.head(); p.say(ok2) })
	first, err := trip(t, c, get(t.Context()))
	_ = read(t, first, err)
	second, err := trip(t, c, get(t.Context()))
	if x, ok := first.Body.(*call); !ok || x.c != nil || x.in.buf != nil {
		t.Error("it holds on to the connection")
	}
	if n, rerr := first.Body.Read(make([]byte, 9)); n != 0 || rerr != io.EOF {
		t.Errorf("read %d bytes, %v", n, rerr)
	}
	_ = first.Body.Close()
	if got := read(t, second, err); got != "ok" {
		t.Errorf("%q", got)
	}
}

func TestCancellingCutsAtOnce(t *testing.T) {
	reason := errors.New("revoked")
	for name, say := range map[string]string{
		"before the header":   "",
		"inside the header":   "HTTP/1.1 200 OK\r\nX-A: ",
		"inside the body":     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc",
		"inside a chunk":      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nabc",
		"inside until-close":  "HTTP/1.1 200 OK\r\n\r\nabc",
		"after informational": "HTTP/1.1 102 Processing\r\n\r\n",
	} {
		for _, body := range []bool{false, true} {
			ctx, cancel := context.WithCancelCause(t.Context())
			c, p := pair(t, NewClient(Options{HeaderBytes: 1 << 10, HeaderTimeout: time.Hour, Informational: 9, Continue: time.Hour}), 0)
			p.answering(func() { p.head(); p.say(say); time.Sleep(20 * time.Millisecond); cancel(reason) })
			r := get(ctx)
			if body { // it never comes
				pr, pw := io.Pipe()
				t.Cleanup(func() { _ = pw.Close() })
				r = post(ctx, pr, -1)
			}
			begin := time.Now()
			resp, err := trip(t, c, r)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
			}
			if !errors.Is(err, reason) || time.Since(begin) > patience/2 || c.Err() == nil {
				t.Errorf("%s, body %t: %v after %s", name, body, err, time.Since(begin))
			}
		}
	}
}

// A connection that was cut is of no use, even if the answer was complete.
func TestACutConnectionIsNotUsedAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	c, p := pair(t, testClient(), 0)
	p.answering(func() { p.head(); p.say(ok2) })
	resp, err := trip(t, c, get(ctx))
	cancel()
	eventually(t, "it is cut", c.cut.Load)
	if got := read(t, resp, err); got != "ok" || c.Err() == nil { // it was read ahead with its header
		t.Errorf("%q, %v", got, c.Err())
	}
}

// deadlines records the last deadline that was set.
type deadlines struct {
	tape
	last time.Time
}

func (d *deadlines) SetDeadline(t time.Time) error     { d.last = t; return nil }
func (d *deadlines) SetReadDeadline(t time.Time) error { d.last = t; return nil }

func TestACutOutlastsDeadlinesThatAreSetLater(t *testing.T) {
	d := &deadlines{}
	c := testClient().New(d, nil, func() {})
	c.cutter()
	c.deadline(net.Conn.SetReadDeadline, time.Time{})
	if !d.last.Equal(time.Unix(1, 0)) {
		t.Errorf("the deadline is %s", d.last)
	}
}

func TestACancelledRequestIsNotSent(t *testing.T) {
	c, _ := pair(t, testClient(), 0)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trip(t, c, get(ctx)); !errors.Is(err, context.Canceled) || c.Available() != 1 {
		t.Errorf("%v", err)
	}
}

func TestAHeaderThatDoesNotCome(t *testing.T) {
	for _, body := range []bool{false, true} {
		c, p := pair(t, NewClient(Options{HeaderBytes: 1 << 10, HeaderTimeout: 50 * time.Millisecond, Informational: 9, Continue: time.Hour}), 0)
		p.answering(func() { p.head() })
		r := get(t.Context())
		if body {
			r = post(t.Context(), strings.NewReader("abc"), 3)
		}
		_, err := trip(t, c, r)
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnanswered) {
			t.Errorf("%v", err)
		}
	}
}

// A body may take as long as it likes, whatever the header's limit.
func TestTheHeadersDeadlineEndsWithIt(t *testing.T) {
	c, p := pair(t, NewClient(Options{HeaderBytes: 1 << 10, HeaderTimeout: 300 * time.Millisecond, Informational: 9, Continue: time.Hour}), 0)
	p.answering(func() {
		r := p.head()
		_, _ = io.Copy(io.Discard, r.Body)
		p.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
		time.Sleep(500 * time.Millisecond)
		p.say("k")
	})
	resp, err := trip(t, c, post(t.Context(), strings.NewReader("abc"), -1))
	if got := read(t, resp, err); got != "ok" || c.Available() != 1 {
		t.Errorf("%q", got)
	}
}

func TestLimits(t *testing.T) {
	cl := NewClient(Options{HeaderBytes: 10 << 10, Informational: 3, Continue: time.Hour})
	for name, x := range map[string]struct {
		answer string
		want   error
	}{
		"large header":       {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 9<<10) + "\r\nContent-Length: 0\r\n\r\n", nil},
		"too large header":   {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 11<<10) + "\r\nContent-Length: 0\r\n\r\n", ErrTooLarge},
		"endless header":     {"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 99<<10), ErrTooLarge},
		"too many fields":    {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X:\r\n", 1+maxFields) + "\r\n", ErrTooLarge},
		"informational":      {strings.Repeat("HTTP/1.1 103 Hints\r\n\r\n", 3) + ok2, nil},
		"too many":           {strings.Repeat("HTTP/1.1 103 Hints\r\n\r\n", 4) + ok2, ErrTooMany},
		"chunk's size":       {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + strings.Repeat("x", 5000) + "\r\nok\r\n0\r\n\r\n", ErrChunk},
		"extensions":         {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;"+strings.Repeat("x", 900)+"\r\nx\r\n", 30) + "0\r\n\r\n", ErrChunk},
		"trailer":            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("x", 4000) + "\r\n\r\n", nil},
		"too large trailer":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n", ErrTooLarge},
		"closed":             {"", ErrUnanswered},
		"closed in a header": {"HTTP/1.1 200 OK\r\nX", io.ErrUnexpectedEOF},
		"closed in a body":   {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", io.ErrUnexpectedEOF},
		"closed in a chunk":  {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok", io.ErrUnexpectedEOF},
	} {
		c, p := pair(t, cl, 0)
		p.answering(func() { p.head(); p.say(x.answer); _ = p.tls.Close() })
		resp, err := trip(t, c, get(t.Context()))
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		if !errors.Is(err, x.want) || x.want != nil && c.Err() == nil {
			t.Errorf("%s: %v, want %v", name, err, x.want)
		}
		if errors.Is(err, ErrUnanswered) != (x.want == ErrUnanswered) { //nolint:errorlint // the table's own value
			t.Errorf("%s: %v may be repeated", name, err)
		}
	}
}

// A request that could be read as another is not written, and costs nothing.
func TestRequestsThatAreNotWritten(t *testing.T) {
	c, _ := pair(t, testClient(), 0)
	for name, change := range map[string]func(r *http.Request){
		"method":     func(r *http.Request) { r.Method = "GET /" },
		"no method":  func(r *http.Request) { r.Method = "" },
		"target":     func(r *http.Request) { r.URL.Opaque = "/a b" },
		"line break": func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" },
		"host":       func(r *http.Request) { r.Host = "a\r\nX: y" },
		"no host":    func(r *http.Request) { r.Host = "" },
		"name":       func(r *http.Request) { r.Header["X Y"] = []string{"a"} },
		"name's end": func(r *http.Request) { r.Header["X:"] = []string{"a"} },
		"value":      func(r *http.Request) { r.Header["X"] = []string{"a\r\nb: c"} },
		"NUL":        func(r *http.Request) { r.Header["X"] = []string{"a\x00"} },
		"length":     func(r *http.Request) { r.ContentLength = 3 },
		"trailer": func(r *http.Request) {
			r.Body, r.ContentLength, r.Trailer = io.NopCloser(strings.NewReader("a")), -1, http.Header{"Content-Length": nil}
		},
		"hop trailer": func(r *http.Request) {
			r.Body, r.ContentLength, r.Trailer = io.NopCloser(strings.NewReader("a")), -1, http.Header{"A\r\nB": nil}
		},
	} {
		r := get(t.Context())
		change(r)
		if _, err := trip(t, c, r); !errors.Is(err, ErrRequest) || c.Available() != 1 || strings.Contains(fmt.Sprint(err), "S3CR") {
			t.Errorf("%s: %v, %d free", name, err, c.Available())
		}
	}
}

// What a request has put into shared memory is not there for the next one.
func TestMUST_C9_BuffersForgetWhatTheyHeld(t *testing.T) {
	cl := testClient()
	s := cl.getScratch()
	if err := s.writeHead(get(t.Context())); err != nil || !bytes.Contains(s.head, []byte("S3CR-3T")) {
		t.Fatalf("%v %q", err, s.head)
	}
	copy(s.in[:], "S3CR-3T")
	head := s.head
	cl.putScratch(s)
	if bytes.Contains(head[:cap(head)], []byte("S3CR")) || bytes.Contains(s.in[:], []byte("S3CR")) {
		t.Error("it holds the token")
	}
}

func TestCloseFromOutside(t *testing.T) {
	c, p := pair(t, testClient(), 0)
	p.answering(func() { p.head(); _ = c.Close() })
	if _, err := trip(t, c, get(t.Context())); err == nil {
		t.Error("it was answered")
	}
	if c.Reserve() == nil || c.Available()+c.InFlight() != 0 || !errors.Is(c.Err(), ErrClosed) {
		t.Error("it is not closed")
	}
	_ = c.Close()
	c.Release()
	if c.Reserve() == nil {
		t.Error("it came back")
	}
}

func TestSlowIsATimeout(t *testing.T) {
	if !os.IsTimeout(slow{}) || !errors.Is(slow{}, context.DeadlineExceeded) {
		t.Error("it is not")
	}
}
