// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http/httpguts"

	"github.com/egret-proxy/egret/internal/h1/h1test"
	"github.com/egret-proxy/egret/policy"
)

// likeTheLibrary makes the world forward everything with httputil.ReverseProxy.
func likeTheLibrary(c *worldConfig) { c.standard = true }

// fieldsOf is a header in one order, without what no two answers have in common.
func fieldsOf(h http.Header, but ...string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(h)) {
		for _, v := range h[name] {
			if slices.Contains(but, name) {
				continue
			}
			switch name {
			case "Date":
				continue
			case "Egret-Decision":
				v, _, _ = strings.Cut(v, "id=")
			case "Trailer":
				names := strings.Split(strings.ReplaceAll(v, " ", ""), ",")
				slices.Sort(names)
				v = strings.Join(names, ", ")
			}
			fmt.Fprintf(&b, "%s: %q\n", name, v)
		}
	}
	return b.String()
}

// script is an upstream that answers each connection's one request with the same bytes.
type script struct {
	w *world
	u *upstream

	mu     sync.Mutex
	answer []byte
	seen   []string
}

func newScript(w *world) *script {
	s := &script{w: w}
	s.u = w.listenTLS(echoHost, []string{protoH1}, s.serve)
	w.dialTo(echoHost, s.u)
	return s
}

func (s *script) serve(c *tls.Conn) {
	_ = c.SetDeadline(time.Now().Add(3 * time.Second))
	var head bytes.Buffer
	r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(c, &head)))
	if err != nil {
		return
	}
	body, err := io.ReadAll(r.Body)
	text, _, _ := strings.Cut(head.String(), "\r\n\r\n")
	saw := fmt.Sprintf("%s\n%q %v\n%s", text, body, err, fieldsOf(r.Trailer))
	if token := s.w.minter.last.Load(); token != nil {
		saw = strings.ReplaceAll(saw, token.Reveal(), "TOKEN")
	}
	s.mu.Lock()
	s.seen = append(s.seen, saw)
	answer := s.answer
	s.mu.Unlock()
	_, _ = c.Write(answer)
	_ = c.Close()
}

// play sends one request over HTTP/1.1 and returns what the upstream saw of it, and what
// came back.
func (s *script) play(request, answer []byte) (seen []string, got string) {
	s.mu.Lock()
	s.answer, s.seen = answer, nil
	s.mu.Unlock()
	tc := s.w.inside(echoHost+":443", echoHost)
	defer tc.Close()
	_ = tc.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = tc.Write(request)
	var but []string
	if !bytes.Contains(bytes.ToLower(answer), []byte("content-type")) {
		but = []string{"Content-Type"} // net/http guesses one where the body comes together with the header
	}
	untold := !bytes.Contains(bytes.ToLower(answer), []byte("content-length"))
	got = answersOf(bufio.NewReader(tc), request, readAs{but, untold})
	_ = tc.Close()
	s.w.pool.mu.Lock()
	for _, g := range s.w.pool.groups {
		for _, uc := range g.conns {
			_ = uc.cc.Close()
		}
	}
	s.w.pool.mu.Unlock()
	s.u.mu.Lock()
	s.u.conns = nil
	s.u.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen, got
}

// readAs says what of an answer hangs on time.
type readAs struct {
	but []string // fields
	// untold: the upstream does not declare a length. Where its body is empty, too, both
	// forwarders send the header as chunked or with a length of 0: whichever comes first, the
	// body's end or the flush that a waiting client is owed.
	untold bool
}

// answersOf reads the informational answers and the final one. How much of a broken one
// comes is a matter of time.
func answersOf(br *bufio.Reader, request []byte, as readAs) string {
	r, _ := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	var b strings.Builder
	for {
		resp, err := http.ReadResponse(br, r)
		if err != nil {
			return b.String() + "broken"
		}
		if resp.StatusCode == http.StatusSwitchingProtocols {
			rest, _ := io.ReadAll(br)
			return fmt.Sprintf("%s%s\n%s%q", b.String(), resp.Status, fieldsOf(resp.Header), rest)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return b.String() + "broken"
		}
		if resp.StatusCode >= 400 && resp.Header.Get("Proxy-Status") != "" { // a refusal names the request
			text = nil
			resp.Header.Del("Content-Length")
			resp.ContentLength = 0
		}
		if as.untold && len(text) == 0 && len(resp.Trailer) == 0 {
			resp.Header.Del("Content-Length")
			resp.ContentLength, resp.TransferEncoding = 0, nil
		}
		fmt.Fprintf(&b, "%s %s %d %v %v\n%s%q\n%s", resp.Proto, resp.Status, resp.ContentLength, resp.TransferEncoding, resp.Close,
			fieldsOf(resp.Header, as.but...), text, fieldsOf(resp.Trailer))
		if resp.StatusCode >= 200 {
			return b.String()
		}
	}
}

// comparable reports inputs that are one whole request, and whose outcome does not hang on
// time or on what was asked before.
func comparable(request, answer []byte) bool {
	br := bufio.NewReader(bytes.NewReader(request))
	r, err := http.ReadRequest(br)
	if err != nil || len(r.Header["Expect"]) > 0 || r.Host != echoHost {
		return false
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return false
	}
	_, err = br.ReadByte()
	return err != nil && !bytes.Contains(answer, []byte(" 401")) && !severalOptions.Match(answer)
}

// severalOptions are answers whose Connection holds close and more: net/http's client drops
// the field, and its forwarder never learns what else belongs to the connection.
//
//nolint:gochecknoglobals // a constant
var severalOptions = regexp.MustCompile(`(?is)\nconnection:[^\n]*close[^\n]*,|\nconnection:[^\n]*,[^\n]*close|\nconnection:.*\nconnection:`)

// refused reports an answer that we refuse although net/http takes it, with good reason.
func refused(answer []byte, got string) bool {
	return h1test.Strict(answer) != "" && (strings.Contains(got, "Proxy-Status") || strings.HasSuffix(got, "broken"))
}

// FuzzRelay holds our forwarder, over our client of HTTP/1.1, to the library's over its
// own, request and answer alike. Coverage over a network is not repeatable: run it with
// -fuzzminimizetime=5x.
func FuzzRelay(f *testing.F) {
	for _, request := range relayRequests {
		f.Add([]byte(request), []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nX-A: 2\r\n\r\nok"))
	}
	for _, answer := range relayAnswers {
		f.Add([]byte("GET /a?b=%2F HTTP/1.1\r\nHost: "+echoHost+"\r\n\r\n"), []byte(answer))
		f.Add([]byte("HEAD /a HTTP/1.1\r\nHost: "+echoHost+"\r\nTe: trailers\r\n\r\n"), []byte(answer))
	}
	for _, answer := range h1test.Answers() {
		f.Add([]byte("GET / HTTP/1.1\r\nHost: "+echoHost+"\r\n\r\n"), []byte(answer))
	}
	ours := newScript(newWorld(fuzzTB{f}))
	theirs := newScript(newWorld(fuzzTB{f}, likeTheLibrary))
	f.Fuzz(func(t *testing.T, request, answer []byte) {
		if len(request)+len(answer) > 8<<10 || !comparable(request, answer) {
			return
		}
		ours.w.t, theirs.w.t = t, t
		seen, got := ours.play(request, answer)
		wantSeen, want := theirs.play(request, answer)
		if d := cmp.Diff(wantSeen, seen); d != "" {
			t.Errorf("%q: the upstream sees (-library +ours)\n%s", request, d)
		}
		if d := cmp.Diff(oneFault(want), oneFault(got)); d != "" && !refused(answer, got) {
			t.Errorf("%q and %q: the client sees (-library +ours)\n%s", request, answer, d)
		}
	})
}

// An answer that is no HTTP would be none the next time, either: nobody is told to try again.
func TestMalformedAnswersAreNoBrokenConnections(t *testing.T) {
	for name, options := range map[string][]option{"ours": nil, "the library": {likeTheLibrary}} {
		s := newScript(newWorld(t, options...))
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "HTTP/1.1 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: br\r\n\r\nx",
		} {
			if _, got := s.play([]byte("GET / HTTP/1.1\r\nHost: "+echoHost+"\r\n\r\n"), []byte(answer)); !strings.Contains(got, "reason=malformed") {
				t.Errorf("%s, %q: %s", name, answer, got)
			}
		}
		if _, got := s.play([]byte("GET / HTTP/1.1\r\nHost: "+echoHost+"\r\n\r\n"), []byte("HTTP/1.1 200 O")); !strings.Contains(got, "reason=reset") {
			t.Errorf("%s, broken off: %s", name, got)
		}
	}
}

// oneFault takes an answer that breaks off for a malformed one: of the two clients, one may
// find out a byte before the other.
func oneFault(s string) string {
	return strings.NewReplacer("reason=malformed", "reason=reset",
		`http_protocol_error; details=\"upstream/malformed`, `connection_terminated; details=\"upstream/reset`).Replace(s)
}

// In mode observe the caller's own headers pass, and so the relay alone keeps back what the
// library keeps back.
func TestRelayObservesLikeTheLibrary(t *testing.T) {
	observe := withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules {
			r.Observe, r.Methods = true, []string{"LOCK"}
		}
	})
	ours, theirs := newScript(newWorld(t, observe)), newScript(newWorld(t, observe, likeTheLibrary))
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	for _, r := range relayRequests {
		seen, _ := ours.play([]byte(r), answer)
		want, _ := theirs.play([]byte(r), answer)
		if d := cmp.Diff(want, seen); d != "" {
			t.Errorf("%q: the upstream sees (-library +ours)\n%s", r, d)
		}
		if len(seen) == 0 && !strings.Contains(r, "Upgrade") {
			t.Errorf("%q was not forwarded", r)
		}
	}
}

// relayRequests are requests in which what belongs to one connection, or must not pass,
// stands in odd places.
//
//nolint:gochecknoglobals // a constant table
var relayRequests = []string{
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n",
	"GET /a%2fb//c?q=1;r=%zz&s HTTP/1.1\r\nHost: " + echoHost + "\r\nUser-Agent:\r\n\r\n",
	"GET //a/../b? HTTP/1.1\r\nHost: " + echoHost + "\r\nUser-Agent: x\r\nUser-Agent: y\r\n\r\n",
	"GET / HTTP/1.0\r\nHost: " + echoHost + "\r\nConnection: keep-alive\r\n\r\n",
	"OPTIONS /x HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: close, X-Mine, Te\r\nX-Mine: 1\r\nTe: trailers, gzip\r\nKeep-Alive: 5\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: Authorization, Content-Length, Host\r\nAuthorization: mine\r\nX_Api_Key: a\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nForwarded: for=a\r\nX-Forwarded-For: b\r\nX-Forwarded-Port: 1\r\nVia: c\r\nProxy-Foo: d\r\nProxy-Connection: close\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nTe: gzip\r\nTe: trailers\r\nAccept-Encoding: br\r\nRange: bytes=0-1\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nUpgrade: websocket\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	"GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nContent-Length: 5\r\n\r\nhello",
	"POST / HTTP/1.1\r\nHost: " + echoHost + "\r\nContent-Length: 0\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: " + echoHost + "\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello",
	"PUT / HTTP/1.1\r\nHost: " + echoHost + "\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
	"PATCH / HTTP/1.1\r\nHost: " + echoHost + "\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-Api-Key\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Api-Key: k\r\nX-More: 2\r\n\r\n",
	"DELETE / HTTP/1.1\r\nHost: " + echoHost + "\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}

// relayAnswers are whole, odd and broken answers.
//
//nolint:gochecknoglobals // a constant table
var relayAnswers = []string{
	"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: x\r\nServer: s\r\n\r\nok",
	"HTTP/1.0 200 OK\r\n\r\nuntil the end",
	"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nabc\r\n0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-None, Set-Cookie\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Sum: 2\r\nSet-Cookie: a\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Unannounced: 1\r\nAuthorization: a\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A, X-B, X-C\r\n\r\n0\r\n\r\n",
	"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nEtag: x\r\n\r\n",
	"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.example/\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nLink: </b>\r\nAlt-Svc: h3\r\nConnection: x\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </c>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\nLink: </d>\r\n\r\nok",
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello",
	"HTTP/1.1 101 Switching Protocols\r\n\r\n",
	"HTTP/1.1 200 OK\r\nConnection: X-Hop, Content-Type\r\nX-Hop: 1\r\nContent-Type: a/b\r\nKeep-Alive: 1\r\nUpgrade: h2c\r\nProxy-Authenticate: b\r\nTe: x\r\nContent-Length: 0\r\n\r\n",
	"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nWww-Authenticate: c\r\nAlt-Svc: d\r\nEgret-Decision: allow\r\nProxy-Status: e\r\nContent-Length: 1\r\n\r\nx",
	"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nContent-Length: 9\r\n\r\ndata: a\n\n",
	"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream\r\n\r\ndata: a\n\n",
	"HTTP/1.1 200 OK\r\nContent-Type: ;\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx",
	"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
	"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
	"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 20 Odd\r\n\r\n", "HTTP/1.1 200\r\n\r\n", "garbage", "",
}

// relayHandlers are upstreams for both protocols; what they send is a matter of calls, not
// of bytes.
func relayHandlers() map[string]http.HandlerFunc {
	return map[string]http.HandlerFunc{
		"plain": func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) },
		"trailers": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Sum", r.Trailer.Get("X-Sum"))
			w.Header().Set(http.TrailerPrefix+"X-Late", strconv.Itoa(len(r.Trailer)))
		},
		"hints": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Set("X-Final", "1")
			w.WriteHeader(http.StatusAccepted)
		},
		"stream": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for i := range 5 {
				_, _ = fmt.Fprintf(w, "piece %d\n", i)
				_ = http.NewResponseController(w).Flush()
			}
		},
		"early": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) },
		"large": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = w.Write(make([]byte, 300<<10))
		},
		"abort": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		},
	}
}

// The relay and the library give clients, upstreams and records the same, whatever the
// protocol.
func TestRelayDoesWhatTheLibraryDoes(t *testing.T) {
	for name, h := range relayHandlers() {
		t.Run(name, func(t *testing.T) {
			ours, theirs := newWorld(t, withHandler(h)), newWorld(t, withHandler(h), likeTheLibrary)
			for _, proto := range []string{"h1", "h2"} {
				for _, kind := range []string{"get", "post", "trailers", "expect"} {
					got, want := ours.exchange(proto, kind), theirs.exchange(proto, kind)
					if d := cmp.Diff(want, got); d != "" {
						t.Errorf("%s %s (-library +ours)\n%s", proto, kind, d)
					}
				}
			}
		})
	}
}

// exchange makes one request with Go's client and sums up the answer and the record.
func (w *world) exchange(proto, kind string) (sum string) {
	var body io.Reader
	if kind != "get" {
		body = io.MultiReader(strings.NewReader("some body"), strings.NewReader(" in pieces"))
	}
	r := request(w.t, map[bool]string{true: "GET", false: "POST"}[kind == "get"], "https://"+otherHost+"/x", body)
	switch kind {
	case "trailers":
		r.Trailer = http.Header{"X-Sum": {"42"}, "X-Api-Key": {"mine"}}
	case "expect":
		r.Header.Set("Expect", "100-continue")
	}
	var hints []string
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code != http.StatusContinue { // the server's own and the upstream's: how many come hangs on time
			hints = append(hints, fmt.Sprint(code, fieldsOf(http.Header(h))))
		}
		return nil
	}}))
	var change []func(*http.Transport)
	if proto == "h1" {
		change = append(change, http1)
	}
	before := len(w.allRecords())
	resp, err := w.client("sidecar", change...).Do(r)
	defer func() { // how much came of a body that nobody wanted hangs on time
		if resp != nil && resp.StatusCode == http.StatusConflict {
			sum, _, _ = strings.Cut(sum, "\nrecord")
		}
	}()
	if err != nil {
		return "no answer" + w.told(before)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	chunked := httpguts.HeaderValuesContainsToken(resp.TransferEncoding, "chunked")
	return fmt.Sprintf("%v %s %d %v\n%s%x %v\n%s%s", hints, resp.Status, resp.ContentLength, chunked, fieldsOf(resp.Header), text, err, fieldsOf(resp.Trailer), w.told(before))
}

// told is what the record says that does not hang on time.
func (w *world) told(before int) string {
	r := w.wait(before+1, any1)[before]
	return fmt.Sprint("\nrecord ", r.Kind, r.Method, r.Host, r.Status, r.Verdict, r.Layer, r.Reason, r.CallerCredential, r.BytesIn, r.BytesOut, r.Proto, r.UpstreamIP)
}
