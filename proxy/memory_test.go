// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/egret-proxy/egret/audit"
)

// Ceilings of what an idle intercepted connection may hold of heap and stacks, in bytes.
// Lower one when it is beaten. Most is not ours: of HTTP/1.1 8 KiB are net/http's buffers,
// 8 KiB the stack of its goroutine, 7 KiB crypto/tls.
const (
	maxIdleH1 = 28 << 10
	maxIdleH2 = 31 << 10
)

// TestMemoryOfAnIdleConnection: what many connections hold after one request each, divided
// by their number. Of the clients only their sockets are kept.
func TestMemoryOfAnIdleConnection(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector needs memory of its own")
	}
	for name, tc := range map[string]struct {
		ask     func(*testing.T, *world, net.Conn)
		ceiling int
	}{
		"h1": {askH1, maxIdleH1},
		"h2": {askH2, maxIdleH2},
	} {
		t.Run(name, func(t *testing.T) {
			const n = 300
			w := newWorld(t, withHandler(quietHandler), func(c *worldConfig) {
				c.audit = func(o *audit.Options) { o.Writer = audit.NewStream(io.Discard) }
			})
			clients := make([]net.Conn, 0, n+20)
			defer func() {
				for _, c := range clients {
					_ = c.Close()
				}
			}()
			open := func(n int) {
				for range n {
					c := must(net.Dial("tcp", w.addr["sidecar"]))(t)
					clients = append(clients, c)
					_, _ = io.WriteString(c, "CONNECT "+otherHost+":443 HTTP/1.1\r\nHost: "+otherHost+":443\r\n\r\n")
					_ = readHead(c)
					tc.ask(t, w, c)
				}
			}
			open(cap(clients) - n) // what is there once
			before := held()
			open(n)
			each := (held() - before) / n
			if got := len(w.srv.table.all()); got != len(clients) {
				t.Fatalf("%d of %d connections are open", got, len(clients))
			}
			t.Logf("%d bytes", each)
			if each > tc.ceiling {
				t.Errorf("%d bytes, the ceiling is %d", each, tc.ceiling)
			}
		})
	}
}

// held is the memory that is in use once everything has come to rest.
func held() int {
	var m runtime.MemStats
	for range 3 {
		time.Sleep(100 * time.Millisecond)
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc + m.StackInuse)
}

func askH1(t *testing.T, w *world, conn net.Conn) {
	tc := tls.Client(conn, &tls.Config{RootCAs: w.roots(), ServerName: otherHost})
	_, _ = io.WriteString(tc, "GET /x HTTP/1.1\r\nHost: "+otherHost+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(tc), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
}

// askH2 sends one request by hand: a client of the library's has goroutines.
func askH2(t *testing.T, w *world, conn net.Conn) {
	tc := tls.Client(conn, &tls.Config{RootCAs: w.roots(), ServerName: otherHost, NextProtos: []string{"h2"}})
	_, _ = io.WriteString(tc, http2.ClientPreface)
	f := http2.NewFramer(tc, tc)
	_ = f.WriteSettings()
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, EndHeaders: true,
		BlockFragment: h2Block(":method", "GET", ":scheme", "https", ":path", "/x", ":authority", otherHost)})
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if d, ok := frame.(*http2.DataFrame); ok && d.StreamEnded() {
			return
		}
	}
}
