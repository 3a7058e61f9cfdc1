// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/egret-proxy/egret/internal/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// do sends one request to a handler; header is "Name: value" lines.
func do(t *testing.T, h http.Handler, line string, body string, header ...string) *http.Response {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for _, l := range header {
		name, value, _ := strings.Cut(l, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// decode reads a JSON object.
func decode(t *testing.T, resp *http.Response) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		t.Fatalf("answer is not JSON: %v", err)
	}
	return v
}

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func newClock() *clock { return &clock{time.Date(2026, 5, 4, 6, 0, 0, 0, time.UTC)} }

// serve starts a Server and returns a client for it; protocol is "h2" or "http/1.1".
func serve(t *testing.T, hosts ...Host) (*Server, func(protocol string) *http.Client) {
	t.Helper()
	ca, err := NewCA()
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(ca, hosts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s, func(protocol string) *http.Client {
		tr := &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: ca.Pool()},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", s.Addr())
			},
			Protocols: new(http.Protocols),
		}
		tr.Protocols.SetHTTP1(protocol == "http/1.1")
		tr.Protocols.SetHTTP2(protocol == "h2")
		t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{
			Transport:     tr,
			Timeout:       5 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
}

// fetch sends a request and returns the answer with its body read.
func fetch(t *testing.T, c *http.Client, r *http.Request) (*http.Response, []byte) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read the body: %v", err)
	}
	return resp, body
}

func request(t *testing.T, method, url string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestIssuerStates(t *testing.T) {
	c := newClock()
	i := NewIssuer(c.now)
	live, short, gone := i.Issue([]string{"a", "b"}, time.Hour), i.Issue(nil, time.Minute), i.Issue(nil, 0)
	static := secret.New("a-static-key")
	i.Adopt(static, []string{"read"}, 0)
	if !i.Revoke(gone) {
		t.Error("Revoke did not know a token that was issued")
	}
	c.at = c.at.Add(time.Minute) // the first instant at which short no longer lives
	for _, tc := range []struct {
		name   string
		token  string
		scopes string
		state  TokenState
	}{
		{"live", live.Reveal(), "a b", TokenLive},
		{"static", static.Reveal(), "read", TokenLive},
		{"expired", short.Reveal(), "", TokenExpired},
		{"revoked", gone.Reveal(), "", TokenRevoked},
		{"unknown", "nobody's", "", TokenUnknown},
		{"empty", "", "", TokenUnknown},
	} {
		scopes, state := i.Valid(tc.token)
		if state != tc.state || strings.Join(scopes, " ") != tc.scopes {
			t.Errorf("%s: got %v %v, want %v %q", tc.name, scopes, state, tc.state, tc.scopes)
		}
	}
}

func TestIssuerRevoke(t *testing.T) {
	i := NewIssuer(nil)
	a, b := i.Issue(nil, time.Hour), i.Issue(nil, 0)
	if a.Equal(b) {
		t.Fatal("two tokens are equal")
	}
	if i.Revoke(secret.New("other")) {
		t.Error("Revoke knew a token that was never issued")
	}
	if n := i.RevokeAll(); n != 2 {
		t.Errorf("RevokeAll ended %d tokens, want 2", n)
	}
	if n := i.RevokeAll(); n != 0 {
		t.Errorf("RevokeAll ended %d dead tokens", n)
	}
	if _, state := i.Valid(a.Reveal()); state != TokenRevoked {
		t.Errorf("state after RevokeAll is %v", state)
	}
}
