// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/policy"
)

func TestEachSideSpeaksTheSameProtocol(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		host, want string
		change     []func(*http.Transport)
	}{
		"h2 to h2":                     {echoHost, "HTTP/2.0", nil},
		"h1 to h1":                     {echoHost, "HTTP/1.1", []func(*http.Transport){http1}},
		"a client of both to h1":       {h1Host, "HTTP/1.1", nil},
		"a client of h1 only to an h1": {h1Host, "HTTP/1.1", []func(*http.Transport){http1}},
	} {
		t.Run(name, func(t *testing.T) {
			resp, text := w.get(w.client("sidecar", c.change...), "https://"+c.host+"/x")
			if rep := report(t, text); rep.Proto != c.want || resp.Proto != c.want {
				t.Errorf("the SaaS saw %s, the client %s, want %s", rep.Proto, resp.Proto, c.want)
			}
		})
	}
}

func TestClientOfHTTP2OnlyIsToldThatTheUpstreamHasNone(t *testing.T) {
	w := newWorld(t)
	tc := tls.Client(w.tunnelTo("sidecar", h1Host+":443"), &tls.Config{RootCAs: w.roots(), ServerName: h1Host, NextProtos: []string{"h2"}})
	if err := tc.Handshake(); remoteAlert(err) != alertNoALPN {
		t.Errorf("handshake: %v, want the alert no_application_protocol", err)
	}
	r := w.wait(1, func(r record) bool { return r.Kind == audit.KindHandshake })[0]
	if r.Layer != "client" || r.Reason != "no_common_protocol" || r.Verdict != "deny" || r.Workload != jobID {
		t.Errorf("record %+v", r)
	}
}

// An upstream that gives up HTTP/2 costs one request and no more.
func TestUpstreamThatChangesItsProtocolIsLearntAnew(t *testing.T) {
	w := newWorld(t)
	protocol := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(rw, r.Proto) })
	u := w.listenTLS(echoHost, []string{"h2", "http/1.1"}, serveOne(protocol))
	w.dialTo(echoHost, u)
	c := w.client("sidecar")
	if _, text := w.get(c, "https://"+echoHost+"/"); text != "HTTP/2.0" {
		t.Fatalf("at first %q", text)
	}
	u.protos.Store(&[]string{"http/1.1"})
	u.cut()
	eventually(t, "one request meets the change", func() bool {
		resp, _ := w.get(c, "https://"+echoHost+"/")
		return resp.StatusCode == http.StatusBadGateway
	})
	if resp, text := w.get(c, "https://"+echoHost+"/"); text != "HTTP/1.1" || resp.Proto != "HTTP/1.1" {
		t.Errorf("after the change: %s %s %q", resp.Proto, resp.Status, text)
	}
	w.wait(1, func(r record) bool { return r.Reason == "protocol" && r.Layer == "upstream" })
}

func TestServerSentEventsArriveOneByOne(t *testing.T) {
	next := make(chan struct{})
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(rw, "data: x\n\n")
			_ = http.NewResponseController(rw).Flush()
			select {
			case <-next: // the client has it: only then comes the next
			case <-r.Context().Done():
				return
			}
		}
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "GET", "https://"+otherHost+"/sse", nil))
		br := bufio.NewReader(resp.Body)
		for i := range 3 {
			if line, err := br.ReadString('\n'); err != nil || line != "data: x\n" {
				t.Fatalf("event %d: %q %v", i, line, err)
			}
			_, _ = br.ReadString('\n')
			next <- struct{}{}
		}
		if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the last event: %v", err)
		}
		_ = resp.Body.Close()
	})
}

func TestWebSocketWorksAndItsStartAndEndAreRecorded(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ws, resp, err := websocket.Dial(ctx, "wss://"+echoHost+"/ws", &websocket.DialOptions{HTTPClient: w.client("sidecar", http1)})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("Egret-Decision") == "" {
		t.Error("no Egret-Decision in the 101")
	}
	for _, text := range []string{"one", strings.Repeat("long ", 5000)} {
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.Read(ctx); err != nil || string(got) != text {
			t.Fatalf("got %d bytes, %v", len(got), err)
		}
	}
	_ = ws.Close(websocket.StatusNormalClosure, "")
	start := w.wait(1, func(r record) bool { return r.Kind == audit.KindStreamStart })[0]
	end := w.wait(1, func(r record) bool { return r.Kind == audit.KindStreamEnd })[0]
	if start.ID != end.ID || end.Status != 101 || end.BytesIn < 25000 || end.BytesOut < 25000 || end.Fingerprint == "" {
		t.Errorf("start %+v\nend %+v", start, end)
	}
}

func TestWebSocketFrameSentBeforeTheAnswerIsNotLost(t *testing.T) {
	w := newWorld(t)
	tc := w.inside(echoHost+":443", echoHost)
	frame := "\x81\x82\x00\x00\x00\x00hi" // text, masked with zeros
	_, _ = io.WriteString(tc, "GET /ws HTTP/1.1\r\nHost: "+echoHost+"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"+frame)
	if head := readHead(tc); !strings.HasPrefix(head, "HTTP/1.1 101") {
		t.Fatalf("answer %q", head)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(tc, got); err != nil || string(got) != "\x81\x02hi" {
		t.Errorf("echo %q %v", got, err)
	}
}

// The body stays with the client until both egret and the SaaS want it.
func TestMUST_H9_ExpectContinueGoesThroughAndABarredBodyIsNeverAskedFor(t *testing.T) {
	w := newWorld(t, onlyPath("/open/**"))
	for path, want := range map[string]string{"/open/x": "HTTP/1.1 100", "/closed": "HTTP/1.1 403"} {
		tc := w.inside(echoHost+":443", echoHost)
		_, _ = io.WriteString(tc, "POST "+path+" HTTP/1.1\r\nHost: "+echoHost+"\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		if head := readHead(tc); !strings.HasPrefix(head, want) {
			t.Errorf("%s: first answer %q, want %s", path, head, want)
		}
		if path != "/open/x" {
			continue
		}
		_, _ = io.WriteString(tc, "body")
		if head := readHead(tc); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Errorf("final answer %q", head)
		}
	}
	reps := w.echo.Reports()
	if len(reps) != 1 || reps[0].BodyBytes != 4 {
		t.Errorf("the SaaS saw %+v", reps)
	}
}

func TestChunkedBodiesPassBothWays(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "POST", "https://"+echoHost+"/chunked?n=3", io.MultiReader(strings.NewReader("a"), strings.NewReader("b"))))
		if text := body(t, resp); text != "chunk 0\nchunk 1\nchunk 2\n" || resp.ContentLength != -1 {
			t.Errorf("%q, length %d", text, resp.ContentLength)
		}
		if reps := w.echo.Reports(); reps[len(reps)-1].BodyBytes != 2 || reps[len(reps)-1].Length != -1 {
			t.Errorf("the SaaS saw %+v", reps[len(reps)-1])
		}
	})
}

func TestTrailersPassBothWays(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		r := request(t, "POST", "https://"+echoHost+"/trailers", io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"Checksum": {"abc"}}
		resp := do(t, c, r)
		rep := report(t, body(t, resp))
		if got := rep.Trailers["Checksum"]; len(got) != 1 || got[0] != "abc" {
			t.Errorf("the SaaS saw the trailers %v", rep.Trailers)
		}
		if resp.Trailer.Get("Echo-Digest") != rep.BodySHA256 {
			t.Errorf("the client saw the trailers %v", resp.Trailer)
		}
	})
}

func TestAnswersWithoutABody(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		for _, x := range []struct {
			method, path string
			status       int
		}{{"HEAD", "/bytes/1000", 200}, {"GET", "/status/204", 204}, {"GET", "/status/304", 304}, {"DELETE", "/status/204", 204}} {
			resp := do(t, c, request(t, x.method, "https://"+echoHost+x.path, nil))
			if text := body(t, resp); resp.StatusCode != x.status || text != "" {
				t.Errorf("%s %s: %d %q", x.method, x.path, resp.StatusCode, text)
			}
			if x.method == "HEAD" && resp.ContentLength != 1000 {
				t.Errorf("HEAD tells the length %d", resp.ContentLength)
			}
		}
	})
}

// A hint comes as a hint, and takes nothing of the final answer away.
func TestEarlyHintsPass(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		var hint textproto.MIMEHeader
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if code == http.StatusEarlyHints {
				hint = h
			}
			return nil
		}}
		r := request(t, "GET", "https://"+echoHost+"/hints", nil)
		resp := do(t, c, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		_ = body(t, resp)
		if hint.Get("Link") == "" || hint.Get("Egret-Decision") != "" {
			t.Errorf("the hint was %v", hint)
		}
		if resp.Header.Get("Link") != "" || !strings.HasPrefix(resp.Header.Get("Egret-Decision"), "allow; id=") {
			t.Errorf("the final header was %v", resp.Header)
		}
	})
}

func TestEarlyAnswerReachesAClientThatIsStillUploading(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		pr, pw := io.Pipe()
		defer pw.Close()
		go func() { _, _ = io.WriteString(pw, "the first of many bytes") }()
		resp := do(t, c, request(t, "POST", "https://"+echoHost+"/early", pr))
		if text := body(t, resp); resp.StatusCode != http.StatusRequestEntityTooLarge || text != "too large\n" {
			t.Errorf("%d %q", resp.StatusCode, text)
		}
	})
}

func TestClientThatLeavesTakesItsRequestBackFromTheUpstream(t *testing.T) {
	arrived, left := make(chan struct{}), make(chan struct{})
	w := newWorld(t, withHandler(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
		left <- struct{}{}
		panic(http.ErrAbortHandler) // an answer could still overtake the close
	}))
	n := 0
	both(t, w, func(t *testing.T, c *http.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-arrived; cancel() }()
		if resp, err := c.Do(request(t, "GET", "https://"+otherHost+"/", nil).WithContext(ctx)); err == nil {
			t.Fatalf("answer %d", resp.StatusCode)
		}
		select {
		case <-left:
		case <-time.After(5 * time.Second):
			t.Fatal("the upstream still works for a client that has left")
		}
		n++
		w.wait(n, func(r record) bool {
			return r.Layer == "client" && r.Reason == "closed" && r.Status == statusClientGone
		})
	})
}

func TestTruncatedAnswerIsATruncatedAnswer(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "GET", "https://"+echoHost+"/truncate", nil))
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the client took half an answer for a whole one")
		}
		if r := w.recordOf(resp); r.Layer != "upstream" || r.Reason != "reset" || r.Status != 200 {
			t.Errorf("record %+v", r)
		}
	})
}

// A kept connection that the server has just closed costs a GET nothing. What may have
// been done already is not done twice.
func TestOnlyWhatMayBeRepeatedIsRepeatedOnANewConnection(t *testing.T) {
	w := newWorld(t)
	var served, posts atomic.Int64
	u := w.listenTLS(h1Host, []string{"http/1.1"}, func(c *tls.Conn) {
		first := true
		answerAll(func(r *http.Request) bool {
			if r.Method == "POST" {
				posts.Add(1)
			}
			served.Add(1)
			ok := first
			first = false
			return ok // one answer for each connection; then it is closed in the client's face
		})(c)
	})
	w.dialTo(h1Host, u)
	c := w.client("sidecar")
	for range 3 {
		if resp, _ := w.get(c, "https://"+h1Host+"/"); resp.StatusCode != 200 {
			t.Fatalf("GET: %s", resp.Status)
		}
	}
	if served.Load() != 5 {
		t.Errorf("%d requests arrived, want 3 and 2 repeated", served.Load())
	}
	resp := do(t, c, request(t, "POST", "https://"+h1Host+"/", strings.NewReader("pay")))
	if p := problemOf(t, body(t, resp)); resp.StatusCode != 502 || p.Reason != "reset" {
		t.Errorf("POST on a connection that died under it: %d %+v", resp.StatusCode, p)
	}
	if posts.Load() != 1 {
		t.Errorf("the POST was sent %d times", posts.Load())
	}
}

// A POST takes a connection that has been idle for long only after GETs have tried it.
func TestPostTakesAFreshConnection(t *testing.T) {
	if *standardForwarder {
		t.Skip("the connection that found out the protocol is of the other client, so there is one more")
	}
	w := newWorld(t)
	u := w.listenTLS(h1Host, []string{"http/1.1"}, answerAll(func(*http.Request) bool { return true }))
	w.dialTo(h1Host, u)
	c := w.client("sidecar")
	w.get(c, "https://"+h1Host+"/")
	w.age(freshFor + time.Second)
	post := func() { _ = body(t, do(t, c, request(t, "POST", "https://"+h1Host+"/", strings.NewReader("x")))) }
	if post(); u.accepted.Load() != 2 {
		t.Errorf("%d connections, want a new one for the POST", u.accepted.Load())
	}
	if post(); u.accepted.Load() != 2 {
		t.Errorf("%d connections: the one just used is fresh", u.accepted.Load())
	}
}

// age makes the pool's idle connections older.
func (w *world) age(d time.Duration) {
	eventually(w.t, "idle", func() bool { total, idle := w.pool.Idle(); return total > 0 && total == idle })
	w.pool.mu.Lock()
	defer w.pool.mu.Unlock()
	for _, g := range w.pool.groups {
		for _, uc := range g.conns {
			uc.lastIdle.Add(-int64(d))
		}
	}
}

func TestClientSessionsResumeAcrossConnections(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*http.Transport){"h2": func(*http.Transport) {}, "h1": http1} {
		t.Run(name, func(t *testing.T) {
			cache := tls.NewLRUClientSessionCache(8)
			for i := range 3 {
				c := w.client("sidecar", change, func(tr *http.Transport) { tr.TLSClientConfig.ClientSessionCache = cache })
				resp, _ := w.get(c, "https://"+echoHost+"/")
				if resp.TLS.DidResume != (i > 0) {
					t.Errorf("connection %d: resumed %v", i, resp.TLS.DidResume)
				}
				c.CloseIdleConnections()
			}
		})
	}
}

// Two requests at once never get the same HTTP/1.1 connection, and none is turned away.
func TestManyRequestsAtOnceEachGetAnUpstreamConnection(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		errs := make(chan error, 60)
		for range cap(errs) {
			go func() {
				resp, err := c.Get("https://" + echoHost + "/slow/20ms")
				if err == nil {
					if resp.StatusCode != 200 {
						err = errors.New(resp.Status)
					}
					_ = resp.Body.Close()
				}
				errs <- err
			}()
		}
		for range cap(errs) {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	})
}

// A body of declared length that comes in pieces arrives in pieces: nothing waits in
// egret for more.
func TestPiecesOfADeclaredLengthArriveAsTheyCome(t *testing.T) {
	const host = "trickle." + echoHost // below a name that the CA permits
	next := make(chan struct{})
	trickle := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "6")
		for _, piece := range []string{"one", "two"} {
			_, _ = io.WriteString(w, piece)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-next:
			case <-r.Context().Done():
			}
		}
	})
	for name, change := range map[string][]func(*http.Transport){"h2": nil, "h1": {http1}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *worldConfig) { c.hosts = []saas.Host{{Name: host, Handler: trickle}} }, func(c *worldConfig) {
				c.policy = func(s *policy.Set) { s.Destinations[0].Hosts = append(s.Destinations[0].Hosts, host) }
			})
			resp, err := w.client("sidecar", change...).Get("https://" + host)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			for _, want := range []string{"one", "two"} {
				got := make([]byte, 3)
				if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
					t.Fatalf("got %q, %v instead of %q", got, err, want)
				}
				next <- struct{}{}
			}
		})
	}
}

// GnuTLS clients look at the certificate after the handshake and close without an alert:
// they leave a record too, which says what it looks like.
func TestAClientThatClosesAfterItsHandshakeLeavesARecord(t *testing.T) {
	w := newWorld(t)
	if err := w.inside(echoHost+":443", echoHost).Close(); err != nil {
		t.Fatal(err)
	}
	r := w.wait(1, any1)[0]
	if r.Kind != audit.KindHandshake || r.Layer+"/"+r.Reason != string(reasonClientUnused) || r.Workload != jobID {
		t.Errorf("record %+v", r)
	}
}
