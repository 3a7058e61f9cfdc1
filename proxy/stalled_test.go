// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// stalled are bodies of HTTP/1.1 that stop before their end.
var stalled = map[string]string{
	"length":  "Content-Length: 100\r\n\r\nabc",
	"large":   "Content-Length: 1000000\r\n\r\nabc",
	"chunked": "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	"nothing": "Content-Length: 100\r\n\r\n",
	"expect":  "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
}

// soon is how long an answer may take that waits for nobody.
const soon = 8 * time.Second

// answered reads an answer and the end of the connection, both within a deadline.
func answered(t *testing.T, c *tls.Conn, method string) *http.Response {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(soon))
	br := bufio.NewReader(c)
	resp, err := http.ReadResponse(br, &http.Request{Method: method})
	for err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(br, &http.Request{Method: method})
	}
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Fatalf("the answer breaks off: %v", err)
	}
	if b, err := io.ReadAll(br); err != nil || len(b) > 0 {
		t.Errorf("the connection goes on: %q, %v", b, err)
	}
	return resp
}

func TestRefusalsDoNotWaitForTheBody(t *testing.T) {
	w := newWorld(t, onlyPath("/allowed"))
	for name, rest := range stalled {
		for _, method := range []string{"POST", "HEAD"} {
			c := w.inside(echoHost+":443", echoHost)
			_, _ = io.WriteString(c, method+" /nope HTTP/1.1\r\nHost: "+echoHost+"\r\n"+rest)
			if resp := answered(t, c, method); resp.StatusCode != 403 || !resp.Close {
				t.Errorf("%s %s: %d, close %t", method, name, resp.StatusCode, resp.Close)
			}
		}
	}
}

// A body that comes whole does not cost the connection, and its bytes are no request.
func TestRefusalsKeepTheConnectionWhereTheBodyComes(t *testing.T) {
	w := newWorld(t, onlyPath("/allowed"))
	c := w.inside(echoHost+":443", echoHost)
	br := bufio.NewReader(c)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	inner := "GET /allowed HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n"
	for range 3 {
		_, _ = io.WriteString(c, "POST /nope HTTP/1.1\r\nHost: "+echoHost+"\r\nContent-Length: "+itoa(len(inner))+"\r\n\r\n")
		_, _ = io.WriteString(c, inner)
		resp := must(http.ReadResponse(br, nil))(t)
		if _ = body(t, resp); resp.StatusCode != 403 || resp.Close {
			t.Fatalf("%d, close %t", resp.StatusCode, resp.Close)
		}
	}
}

// An answer of the SaaS that comes before the body's end closes the connection after it:
// what comes of the body later is never taken for a request.
func TestBytesOfABodyThatWasAnsweredEarlyAreNoRequest(t *testing.T) {
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(rw).EnableFullDuplex()
		rw.WriteHeader(413)
		_, _ = io.WriteString(rw, "no")
	}))
	c := w.inside(otherHost+":443", otherHost)
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+otherHost+"\r\nContent-Length: 100\r\n\r\nabc")
	if resp := answered(t, c, "POST"); resp.StatusCode != 413 {
		t.Errorf("%d", resp.StatusCode)
	}
	_, _ = io.WriteString(c, "GET /later HTTP/1.1\r\nHost: "+otherHost+"\r\n\r\n")
	time.Sleep(50 * time.Millisecond)
	w.wait(1, any1)
}

// A client that was told to go on sends its body, even where the SaaS has answered since:
// closing on it would break its write, and it would never read the answer.
func TestABodyThatWasAskedForIsReadBehindAnEarlyAnswer(t *testing.T) {
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, _ *http.Request) {
		rw.WriteHeader(http.StatusContinue)
		rw.WriteHeader(http.StatusForbidden)
	}))
	c := w.inside(otherHost+":443", otherHost)
	_ = c.SetDeadline(time.Now().Add(soon))
	br := bufio.NewReader(c)
	_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: "+otherHost+"\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	if resp := must(http.ReadResponse(br, nil))(t); resp.StatusCode != 100 {
		t.Fatalf("first %d", resp.StatusCode)
	}
	time.Sleep(settleTime / 5) // the answer comes first
	if _, err := io.WriteString(c, "body"); err != nil {
		t.Fatal(err)
	}
	resp := must(http.ReadResponse(br, nil))(t)
	for resp.StatusCode == 100 { // the SaaS's own, behind ours
		resp = must(http.ReadResponse(br, nil))(t)
	}
	if _ = body(t, resp); resp.StatusCode != 403 {
		t.Errorf("%d", resp.StatusCode)
	}
	if rec := w.recordOf(resp); rec.BytesIn != 4 {
		t.Errorf("%d bytes of the body were read", rec.BytesIn)
	}
}

// uploading starts a request whose body stalls behind its beginning, and waits until it
// is forwarded.
func (w *world) uploading(rest string) *tls.Conn {
	w.t.Helper()
	c := w.inside(echoHost+":443", echoHost)
	_, _ = io.WriteString(c, "POST /x HTTP/1.1\r\nHost: "+echoHost+"\r\n"+rest)
	eventually(w.t, "the request runs", func() bool { return w.runningNow() == 1 })
	return c
}

func (w *world) runningNow() (n int) {
	for _, c := range w.srv.table.all() {
		n += len(c.running())
	}
	return n
}

// stalledH2 is uploading over HTTP/2; the answer comes on the channel.
func (w *world) stalledH2() (<-chan *http.Response, io.Closer) {
	w.t.Helper()
	pr, pw := io.Pipe()
	r := request(w.t, "POST", "https://"+echoHost+"/x", pr)
	got := make(chan *http.Response, 1)
	c := w.client("sidecar")
	go func() {
		defer close(got)
		if resp, err := c.Do(r); err == nil {
			_ = resp.Body.Close()
			got <- resp
		}
	}()
	_, _ = io.WriteString(pw, "abc")
	eventually(w.t, "the request runs", func() bool { return w.runningNow() == 1 })
	return got, pw
}

func TestRevocationReachesAClientWhoseBodyStalls(t *testing.T) {
	for name, rest := range stalled {
		t.Log(name)
		w := newWorld(t)
		c := w.uploading(rest)
		w.reload(func(s *policy.Set) { s.Rules = nil })
		if n := w.srv.Recheck(); n != 1 {
			t.Errorf("%s: %d cut", name, n)
		}
		if resp := answered(t, c, "POST"); resp.StatusCode != 403 {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
	}
	w := newWorld(t)
	got, pw := w.stalledH2()
	defer pw.Close()
	w.reload(func(s *policy.Set) { s.Rules = nil })
	w.srv.Recheck()
	select {
	case resp := <-got:
		if resp == nil || resp.StatusCode != 403 {
			t.Errorf("h2: %v", resp)
		}
	case <-time.After(soon):
		t.Error("h2: no answer")
	}
}

func TestDrainEndsRequestsWhoseBodyStalls(t *testing.T) {
	drained := func(w *world) (Drained, time.Duration) {
		ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
		defer cancel()
		start := time.Now()
		return w.srv.Drain(ctx), time.Since(start)
	}
	for name, rest := range stalled {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c := w.uploading(rest)
			status := make(chan int, 1)
			go func() {
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				for err == nil && resp.StatusCode == http.StatusContinue {
					resp, err = http.ReadResponse(bufio.NewReader(c), nil)
				}
				if err != nil {
					status <- 0
					return
				}
				status <- resp.StatusCode
			}()
			if d, took := drained(w); took > 9*time.Second || d.Cut != 0 {
				t.Errorf("%+v after %s", d, took)
			}
			if got := <-status; got != info(reasonDrain).Status {
				t.Errorf("told %d", got)
			}
			w.wait(1, func(r record) bool { return r.Reason == "drain" })
		})
	}
	t.Run("h2", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, pw := w.stalledH2()
		defer pw.Close()
		if d, took := drained(w); took > 9*time.Second || d.Cut != 0 {
			t.Errorf("%+v after %s", d, took)
		}
	})
}

// A body that still comes, however slowly, is not cut by a drain.
func TestDrainLetsSlowBodiesFinish(t *testing.T) {
	w := newWorld(t)
	got := make(chan *http.Response, 1)
	slow := strings.Repeat("x", 5)
	pr, pw := io.Pipe()
	r := request(t, "POST", "https://"+echoHost+"/x", pr)
	go func() {
		resp, err := w.client("sidecar", http1).Do(r)
		if err == nil {
			_ = resp.Body.Close()
		}
		got <- resp
	}()
	_, _ = io.WriteString(pw, slow)
	eventually(t, "the request runs", func() bool { return w.runningNow() == 1 })
	go func() { w.srv.Drain(context.WithoutCancel(t.Context())) }()
	for range 5 {
		time.Sleep(time.Second)
		_, _ = io.WriteString(pw, slow)
	}
	_ = pw.Close()
	if resp := <-got; resp == nil || resp.StatusCode != 200 {
		t.Errorf("%v", resp)
	}
}
