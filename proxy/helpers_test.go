// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/policy"
)

// withHandler puts a handler of the test's own behind otherHost.
func withHandler(h http.HandlerFunc) option {
	return func(c *worldConfig) { c.hosts = append(c.hosts, saas.Host{Name: otherHost, Handler: h}) }
}

// withPolicy changes what the world's policy is made from.
func withPolicy(f func(*policy.Set)) option { return func(c *worldConfig) { c.policy = f } }

// withSource puts another source in the place of the cache.
func withSource(s credential.Source) option { return func(c *worldConfig) { c.source = s } }

// withLimits sets the node's limits.
func withLimits(l Limits) option { return func(c *worldConfig) { c.limits = l } }

// onlyPath narrows every rule to one path template.
func onlyPath(template string) option {
	return withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules {
			r.PathTemplate = template
		}
	})
}

// reload puts another policy in force. f gets a copy of the set whose slices it may change;
// the objects in it are shared with the policy in force and must stay as they are.
func (w *world) reload(f func(*policy.Set)) {
	s := w.set
	f(&s)
	w.policy.Store(policy.New(s))
}

// both runs a test over HTTP/2 and HTTP/1.1.
func both(t *testing.T, w *world, f func(t *testing.T, c *http.Client)) {
	t.Helper()
	t.Run("h2", func(t *testing.T) { f(t, w.client("sidecar")) })
	t.Run("h1", func(t *testing.T) { f(t, w.client("sidecar", http1)) })
}

// upstream is a TLS server of the test's own, for behaviour that a well-kept server does
// not show.
type upstream struct {
	listener net.Listener
	protos   atomic.Pointer[[]string]
	accepted atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

// listenTLS starts one for a host; serve gets each connection after its handshake.
func (w *world) listenTLS(host string, protos []string, serve func(*tls.Conn)) *upstream {
	w.t.Helper()
	return w.listenWith(must(w.ca.Certificate(host))(w.t), protos, serve)
}

// listenWith is listenTLS with any certificate.
func (w *world) listenWith(cert *tls.Certificate, protos []string, serve func(*tls.Conn)) *upstream {
	w.t.Helper()
	u := &upstream{}
	u.protos.Store(&protos)
	u.listener = must(net.Listen("tcp", "127.0.0.1:0"))(w.t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			raw, err := u.listener.Accept()
			if err != nil {
				return
			}
			u.accepted.Add(1)
			u.mu.Lock()
			u.conns = append(u.conns, raw)
			u.mu.Unlock()
			wg.Go(func() {
				defer raw.Close()
				tc := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: *u.protos.Load()})
				if tc.Handshake() == nil {
					serve(tc)
				}
			})
		}
	})
	w.t.Cleanup(func() { _ = u.listener.Close(); u.cut(); wg.Wait() })
	return u
}

// cut closes every connection.
func (u *upstream) cut() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, c := range u.conns {
		_ = c.Close()
	}
	u.conns = nil
}

// dialTo sends the destination of a host to the upstream. Call it before the first request.
func (w *world) dialTo(host string, u *upstream) {
	for _, d := range w.set.Destinations {
		for _, h := range d.Hosts {
			if h == host {
				d.Dial = u.listener.Addr().String()
			}
		}
	}
	w.policy.Store(policy.New(w.set))
}

// answerAll serves HTTP/1.1 requests with 200 and an empty body until the connection ends.
func answerAll(seen func(*http.Request) bool) func(*tls.Conn) {
	return func(c *tls.Conn) {
		br := bufio.NewReader(c)
		for {
			r, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			if !seen(r) {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}
}

// dialThrough opens a tunnel as a gRPC client does, without failing the test.
func (w *world) dialThrough(ctx context.Context, authority string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", w.addr["sidecar"])
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", authority); err != nil {
		return nil, err
	}
	if head := readHead(conn); !strings.HasPrefix(head, "HTTP/1.1 200") {
		_ = conn.Close()
		return nil, fmt.Errorf("answer to CONNECT: %q", head)
	}
	return conn, nil
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never happened: %s", what)
}

// request makes a request that fails the test if it cannot be made.
func request(t testing.TB, method, url string, body io.Reader) *http.Request {
	t.Helper()
	return must(http.NewRequestWithContext(t.Context(), method, url, body))(t)
}

func do(t testing.TB, c *http.Client, r *http.Request) *http.Response {
	t.Helper()
	return must(c.Do(r))(t)
}

// serveOne serves one connection with net/http, whatever its protocol.
func serveOne(h http.Handler) func(*tls.Conn) {
	return func(c *tls.Conn) {
		done := make(chan struct{})
		l := newChanListener()
		srv := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ConnState: func(_ net.Conn, st http.ConnState) {
			if st == http.StateClosed {
				close(done)
			}
		}}
		go func() { _ = srv.Serve(l) }()
		_ = l.push(c)
		<-done
		_ = srv.Close()
	}
}

// echoKey is the cache's name of the credential of the echo rules.
func (w *world) echoKey() credential.Key {
	r := w.set.Rules[0]
	return credentialKey(r.Credential, policy.Request{ID: spiffeid.RequireFromString(jobID)})
}

// dialEntrance opens a bare connection to an entrance.
func (w *world) dialEntrance(name string) net.Conn {
	w.t.Helper()
	conn := must(net.Dial("tcp", w.addr[name]))(w.t)
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// memConn keeps what is written to it.
type memConn struct {
	net.Conn
	strings.Builder
}

func (c *memConn) Write(p []byte) (int, error)      { return c.Builder.Write(p) }
func (c *memConn) Close() error                     { return nil }
func (c *memConn) SetDeadline(time.Time) error      { return nil }
func (c *memConn) SetWriteDeadline(time.Time) error { return nil }

// fuzzTB makes a world in a fuzz test, which outlives the fuzz target's calls; the testing
// package forbids most methods of *testing.F in there.
type fuzzTB struct{ testing.TB }

func (fuzzTB) Helper()                  {}
func (fuzzTB) Context() context.Context { return context.Background() }

// allRecords reads all lines that were written so far.
func (w *world) allRecords() (out []record) {
	for line := range strings.Lines(w.records.text()) {
		var r record
		if json.Unmarshal([]byte(line), &r) == nil {
			out = append(out, r)
		}
	}
	return out
}
