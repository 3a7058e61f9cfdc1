// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/policy"
)

// quietHandler is the cheapest origin that there is.
func quietHandler(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "ok") }

func BenchmarkInterceptedGET(b *testing.B) {
	for name, change := range map[string]func(*http.Transport){"h2": func(*http.Transport) {}, "h1": http1} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, withHandler(quietHandler))
			c := w.client("sidecar", change)
			get := func() {
				resp, err := c.Get("https://" + otherHost + "/x")
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			get()
			b.ReportAllocs()
			for b.Loop() {
				get()
			}
		})
	}
}

// rawClient is a client of HTTP/1.1 that allocates nothing: what is measured with it is
// egret, with the standard client and server of both its sides and the origin's server.
type rawClient struct {
	conn io.ReadWriter
	br   *bufio.Reader
}

func newRawClient(tb testing.TB) *rawClient {
	return newRawClientIn(newWorld(tb, func(c *worldConfig) {
		c.hosts = append(c.hosts, saas.Host{Name: otherHost, Handler: http.HandlerFunc(quietHandler)})
	}))
}

// newBareClients are a client of egret and one of its origin itself, which allocates next
// to nothing, either.
func newBareClients(tb testing.TB) (through, direct *rawClient) {
	w := newWorld(tb)
	u := w.listenTLS(otherHost, []string{protoH1}, func(c *tls.Conn) {
		br := bufio.NewReader(c)
		for {
			line, err := br.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) == len("\r\n") {
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 06:00:00 GMT\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
			}
		}
	})
	w.dialTo(otherHost, u)
	tc := must(tls.Dial("tcp", u.listener.Addr().String(), &tls.Config{RootCAs: w.ca.Pool(), ServerName: otherHost}))(tb)
	tb.Cleanup(func() { _ = tc.Close() })
	return newRawClientIn(w), &rawClient{conn: tc, br: bufio.NewReader(tc)}
}

func newRawClientIn(w *world) *rawClient {
	tc := w.inside(otherHost+":443", otherHost)
	_ = tc.SetDeadline(time.Now().Add(time.Minute))
	return &rawClient{conn: tc, br: bufio.NewReader(tc)}
}

// do sends a request as it stands and reads the answer, whose length is declared.
func (c *rawClient) do(tb testing.TB, request []byte) {
	_, _ = c.conn.Write(request)
	length := 0
	for {
		line, err := c.br.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if len(line) == 2 {
			break
		}
		if after, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			for _, d := range after[:len(after)-2] {
				length = 10*length + int(d-'0')
			}
		}
	}
	_, _ = c.br.Discard(length)
}

func rawRequests() map[string][]byte {
	return map[string][]byte{
		"get":     []byte("GET /x HTTP/1.1\r\nHost: " + otherHost + "\r\n\r\n"),
		"post":    []byte("POST /x HTTP/1.1\r\nHost: " + otherHost + "\r\nContent-Length: 5\r\n\r\nhello"),
		"refused": []byte("TRACE /x HTTP/1.1\r\nHost: " + otherHost + "\r\n\r\n"),
	}
}

func BenchmarkRaw(b *testing.B) {
	for name, request := range rawRequests() {
		b.Run(name, func(b *testing.B) {
			c := newRawClient(b)
			c.do(b, request)
			b.ReportAllocs()
			for b.Loop() {
				c.do(b, request)
			}
		})
	}
}

// Ceilings of what a request over HTTP/1.1 may allocate. Lower one when it is beaten.
const (
	maxAllocations        = 64
	maxAllocationsPOST    = 86
	maxAllocationsAlone   = 45 // of a GET, without those of client and origin
	maxAllocationsRefused = 45
)

func TestAllocationsOfAnInterceptedRequest(t *testing.T) {
	for name, ceiling := range map[string]float64{"get": maxAllocations, "post": maxAllocationsPOST, "refused": maxAllocationsRefused} {
		t.Run(name, func(t *testing.T) { checkAllocations(t, allocations(t, newRawClient(t), rawRequests()[name]), ceiling) })
	}
}

func TestAllocationsOfEgretAlone(t *testing.T) {
	through, direct := newBareClients(t)
	get := rawRequests()["get"]
	checkAllocations(t, allocations(t, through, get)-allocations(t, direct, get), maxAllocationsAlone)
}

func allocations(t *testing.T, c *rawClient, request []byte) float64 {
	for range 50 {
		c.do(t, request)
	}
	return testing.AllocsPerRun(500, func() { c.do(t, request) })
}

func checkAllocations(t *testing.T, n, ceiling float64) {
	t.Helper()
	t.Logf("%.0f allocations", n)
	if n > ceiling && !raceEnabled && !*standardForwarder { // the race detector and the library allocate
		t.Errorf("%.0f allocations, the ceiling is %.0f", n, ceiling)
	}
}

// served is what an ordinary request counts, and must not allocate.
func servedExchange(tb testing.TB) (*metrics, *exchange) {
	m, err := newMetrics(prometheus.NewRegistry())
	if err != nil {
		tb.Fatal(err)
	}
	x := &exchange{c: &clientConn{dest: &policy.Destination{Name: "slack"}, workInfo: &policy.Workload{Name: "dashboard"}}}
	x.rec.Verdict, x.rec.CallerCredential, x.rec.TUpstream, x.rec.BytesOut = policy.Allow.String(), audit.CallerNone, time.Millisecond, 1024
	return m, x
}

func TestCountingDoesNotAllocate(t *testing.T) {
	m, x := servedExchange(t)
	if n := testing.AllocsPerRun(100, func() { m.served(x) }); n != 0 && !raceEnabled {
		t.Errorf("%v allocations", n)
	}
	if got := testutil.ToFloat64(m.requests.WithLabelValues("slack", "allow", "", "")); got != 101 {
		t.Errorf("%v requests counted", got)
	}
}

func BenchmarkCounting(b *testing.B) {
	m, x := servedExchange(b)
	b.ReportAllocs()
	for b.Loop() {
		m.served(x)
	}
}

func BenchmarkNewID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		_ = newID()
	}
}
