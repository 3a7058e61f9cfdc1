// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/internal/secret"
)

const echoHost = "echo.example"

// echoServer starts an Echo that accepts one token.
func echoServer(t *testing.T) (*Echo, secret.Secret, func(string) *http.Client) {
	t.Helper()
	tokens := NewIssuer(nil)
	e := NewEcho(EchoConfig{Tokens: tokens})
	_, client := serve(t, Host{Name: echoHost, Handler: e})
	return e, tokens.Issue(nil, time.Hour), client
}

// both runs a test over both protocols.
func both(t *testing.T, f func(t *testing.T, protocol string)) {
	t.Helper()
	for _, p := range []string{"http/1.1", "h2"} {
		t.Run(p, func(t *testing.T) { f(t, p) })
	}
}

func ask(t *testing.T, token secret.Secret, line string, body []byte) *http.Request {
	t.Helper()
	method, path, _ := strings.Cut(line, " ")
	r := request(t, method, "https://"+echoHost+path, body)
	r.Header.Set("Authorization", "Bearer "+token.Reveal())
	return r
}

func TestEchoReports(t *testing.T) {
	e, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		r := ask(t, token, "PUT /a%2Fb//c?x=1&api_key=very-secret&y=%20", []byte("body"))
		r.Header["X_Api_Key"] = []string{"very-secret"}
		r.Header.Set("X-Plain", "as it is")
		_, body := fetch(t, client(protocol), r)
		if strings.Contains(string(body), "very-secret") || strings.Contains(string(body), token.Reveal()) {
			t.Fatalf("the report holds a credential: %s", body)
		}
		var got EchoReport
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		fp := secret.New("very-secret").Fingerprint()
		if got.Method != "PUT" || got.Path != "/a%2Fb//c" || got.Query != "x=1&api_key="+fp+"&y=%20" || got.Host != echoHost {
			t.Errorf("request line: %+v", got)
		}
		sum := sha256.Sum256([]byte("body"))
		if got.BodyBytes != 4 || got.Length != 4 || got.BodySHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("body: %+v", got)
		}
		if (got.Proto == "HTTP/2.0") != (protocol == "h2") {
			t.Errorf("proto is %q", got.Proto)
		}
		if got.Fingerprint != token.Fingerprint() || got.Headers["X-Plain"][0] != "as it is" {
			t.Errorf("headers: %+v", got)
		}
		for name, values := range got.Headers {
			if strings.EqualFold(name, "x_api_key") && values[0] != fp {
				t.Errorf("%s: %q", name, values)
			}
		}
		kept := e.Reports()
		if d := cmp.Diff(got, kept[len(kept)-1]); d != "" {
			t.Error(d)
		}
	})
}

func TestEchoRequiresToken(t *testing.T) {
	_, _, client := echoServer(t)
	for _, auth := range []string{"", "Bearer nobody", "Basic eDp5"} {
		r := request(t, "GET", "https://"+echoHost+"/", nil)
		if auth != "" {
			r.Header.Set("Authorization", auth)
		}
		if resp, _ := fetch(t, client("h2"), r); resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: got %d", auth, resp.StatusCode)
		}
	}
}

func TestEchoOpen(t *testing.T) {
	e := NewEcho(EchoConfig{})
	if resp := do(t, e, "GET /", ""); resp.StatusCode != 200 {
		t.Errorf("without a token store: %d", resp.StatusCode)
	}
	e.LimitNext(1, time.Second)
	if resp := do(t, e, "GET /", ""); resp.StatusCode != 429 {
		t.Errorf("limited: %d", resp.StatusCode)
	}
	e.SetOutage(Unavailable)
	if resp := do(t, e, "GET /", ""); resp.StatusCode != 503 {
		t.Errorf("outage: %d", resp.StatusCode)
	}
}

func TestEchoStreams(t *testing.T) {
	_, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		resp, err := client(protocol).Do(ask(t, token, "GET /sse?n=2", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if ct := resp.Header.Get("Content-Type"); ct != "text/event-stream" {
			t.Errorf("Content-Type is %q", ct)
		}
		in, start := bufio.NewReader(resp.Body), time.Now()
		if first, err := in.ReadString('\n'); err != nil || first != "id: 0\n" {
			t.Fatalf("first line %q, %v", first, err)
		}
		rest, err := io.ReadAll(in)
		if err != nil || string(rest) != "data: event 0\n\nid: 1\ndata: event 1\n\n" {
			t.Errorf("rest %q, %v", rest, err)
		}
		if time.Since(start) < 10*time.Millisecond {
			t.Error("the events came all at once")
		}
		if _, body := fetch(t, client(protocol), ask(t, token, "GET /chunked?n=2", nil)); string(body) != "chunk 0\nchunk 1\n" {
			t.Errorf("chunks: %q", body)
		}
	})
}

func TestEchoTrailersAndHints(t *testing.T) {
	_, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		resp, body := fetch(t, client(protocol), ask(t, token, "POST /trailers", []byte("abc")))
		sum := sha256.Sum256([]byte("abc"))
		if got := resp.Trailer.Get("Echo-Digest"); got != hex.EncodeToString(sum[:]) {
			t.Errorf("trailer is %q, body %s", got, body)
		}
		var early []int
		trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			if h.Get("Link") != "" {
				early = append(early, code)
			}
			return nil
		}}
		r := ask(t, token, "GET /hints", nil)
		resp, _ = fetch(t, client(protocol), r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
		if len(early) != 1 || early[0] != 103 || resp.StatusCode != 200 || resp.Header.Get("Link") != "" {
			t.Errorf("hints %v, then %d %v", early, resp.StatusCode, resp.Header)
		}
	})
}

func TestEchoRequestTrailers(t *testing.T) {
	_, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		r := ask(t, token, "POST /", nil)
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("streamed")), -1
		r.Trailer = http.Header{"X-Sum": {"1"}}
		_, body := fetch(t, client(protocol), r)
		var got EchoReport
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if got.Length != -1 || got.BodyBytes != 8 || got.Trailers["X-Sum"][0] != "1" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestEchoEarlyAnswer(t *testing.T) {
	_, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		body, feed := io.Pipe()
		defer feed.Close()
		r := ask(t, token, "POST /early", nil)
		r.Body, r.ContentLength = body, -1
		resp, err := client(protocol).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

func TestEchoDownload(t *testing.T) {
	_, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		const n = 3 << 20
		resp, body := fetch(t, client(protocol), ask(t, token, "GET /bytes/3145728", nil))
		sum := sha256.Sum256(body)
		if resp.ContentLength != n || len(body) != n || hex.EncodeToString(sum[:]) != PatternSHA256(n) {
			t.Errorf("got %d bytes, declared %d", len(body), resp.ContentLength)
		}
	})
}

func TestEchoTruncates(t *testing.T) {
	_, token, client := echoServer(t)
	both(t, func(t *testing.T, protocol string) {
		resp, err := client(protocol).Do(ask(t, token, "GET /truncate", nil))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got, err := io.ReadAll(resp.Body); err == nil || len(got) != 10 {
			t.Errorf("got %d bytes and %v, want 10 and an error", len(got), err)
		}
	})
}

func TestEchoSmallEndpoints(t *testing.T) {
	_, token, client := echoServer(t)
	c := client("http/1.1")
	for line, want := range map[string]int{
		"GET /status/204": 204, "GET /status/99": 400, "GET /status/x": 400,
		"GET /bytes/-1": 400, "GET /bytes/x": 400, "GET /chunked?n=-1": 400,
		"GET /slow/1ms": 200, "GET /slow/2m": 400, "GET /slow/x": 400,
		"GET /challenge": 401, "GET /redirect?to=https://other.example/": 302,
	} {
		if resp, _ := fetch(t, c, ask(t, token, line, nil)); resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", line, resp.StatusCode, want)
		}
	}
	if resp, _ := fetch(t, c, ask(t, token, "GET /cookie", nil)); len(resp.Cookies()) != 1 {
		t.Errorf("cookies: %v", resp.Cookies())
	}
	resp, body := fetch(t, c, ask(t, token, "GET /reflect", nil))
	if !strings.Contains(string(body), token.Reveal()) || resp.Header.Get("Echo-Authorization") != "Bearer "+token.Reveal() {
		t.Error("/reflect does not reflect")
	}
}

func TestEchoSlowEndsWithTheClient(t *testing.T) {
	_, token, client := echoServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	resp, err := client("h2").Do(ask(t, token, "GET /slow/50s", nil).WithContext(ctx))
	if err == nil {
		resp.Body.Close()
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestEchoWebSocket(t *testing.T) {
	_, token, client := echoServer(t)
	c, resp, err := websocket.Dial(t.Context(), "wss://"+echoHost+"/ws", &websocket.DialOptions{
		HTTPClient: client("http/1.1"), HTTPHeader: http.Header{"Authorization": {"Bearer " + token.Reveal()}}, Subprotocols: []string{"echo"},
	})
	if err != nil {
		t.Fatalf("%v (%v)", err, resp)
	}
	defer c.CloseNow()
	if err := c.Write(t.Context(), websocket.MessageBinary, []byte{0, 1, 2}); err != nil {
		t.Fatal(err)
	}
	kind, msg, err := c.Read(t.Context())
	if err != nil || kind != websocket.MessageBinary || string(msg) != "\x00\x01\x02" || c.Subprotocol() != "echo" {
		t.Errorf("got %v %v %v, subprotocol %q", kind, msg, err, c.Subprotocol())
	}
}

func TestServerCloseEndsWebSockets(t *testing.T) {
	s, client := serve(t, Host{Name: echoHost, Handler: NewEcho(EchoConfig{})})
	c, _, err := websocket.Dial(t.Context(), "wss://"+echoHost+"/ws", &websocket.DialOptions{HTTPClient: client("http/1.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, _, err := c.Read(ctx); err == nil || ctx.Err() != nil {
		t.Errorf("the WebSocket outlives the server: %v", err)
	}
}

func FuzzFingerprintQuery(f *testing.F) {
	f.Add("a=1&token=x&b", "value")
	f.Add("", "")
	f.Add("access_token=x&&=", "s p")
	f.Fuzz(func(t *testing.T, raw, value string) {
		got := fingerprintQuery(raw)
		if strings.Count(got, "&") != strings.Count(raw, "&") {
			t.Errorf("%q became %q", raw, got)
		}
		if strings.ContainsAny(value, "&=") || len(value) < 20 {
			return
		}
		if got := fingerprintQuery("x=1&api_key=" + value); strings.Contains(got, value) {
			t.Errorf("the value %q is still in %q", value, got)
		}
	})
}
