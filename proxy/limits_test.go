// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestLimitOfTheHeader(t *testing.T) {
	w := newWorld(t, withLimits(Limits{HeaderBytes: 8 << 10}))
	both(t, w, func(t *testing.T, c *http.Client) {
		for size, want := range map[int]int{4 << 10: 200, 9 << 10: 431, 15 << 10: 431} {
			r := request(t, "GET", "https://"+echoHost+"/", nil)
			r.Header.Set("X-Large", strings.Repeat("x", size))
			resp := do(t, c, r)
			text := body(t, resp)
			if resp.StatusCode != want || want == 431 && problemOf(t, text).Reason != "header_too_large" {
				t.Errorf("%d bytes: %d %s", size, resp.StatusCode, text)
			}
		}
	})
	if _, head := w.connect("sidecar", echoHost+":443", "X: "+strings.Repeat("x", 9<<10)+"\r\n"); !strings.HasPrefix(head, "HTTP/1.1 431 egret limit/header_too_large") {
		t.Errorf("CONNECT: %.80q", head)
	}
	w.wait(5, func(r record) bool { return r.Reason == "header_too_large" })
}

func TestLimitOfConnectionsOfOneWorkload(t *testing.T) {
	w := newWorld(t, withLimits(Limits{ConnectionsPerWorkload: 2}))
	first := w.tunnelTo("sidecar", pinHost+":443")
	_ = w.tunnelTo("sidecar", echoHost+":443")
	if _, head := w.connect("sidecar", echoHost+":443", ""); !strings.HasPrefix(head, "HTTP/1.1 429 egret limit/too_many_connections id=") {
		t.Errorf("the third: %q", head)
	}
	w.wait(1, func(r record) bool {
		return r.Reason == "too_many_connections" && r.Workload == jobID && r.Status == 429
	})
	if resp := do(t, w.meshClient(w.svid(idleID, time.Hour)), request(t, "GET", "https://"+echoHost+"/", nil)); resp.StatusCode != 403 {
		t.Errorf("another workload: %s", resp.Status)
	}
	_ = first.Close()
	eventually(t, "its place is free again", func() bool {
		_, head := w.connect("sidecar", echoHost+":443", "")
		return strings.HasPrefix(head, "HTTP/1.1 200")
	})
}

func TestLimitOfAllConnections(t *testing.T) {
	w := newWorld(t, withLimits(Limits{Connections: 3}))
	for range 3 {
		_ = w.dialEntrance("sidecar")
	}
	eventually(t, "counted", func() bool { return w.srv.table.count.Load() == 3 })
	if _, head := w.connect("sidecar", echoHost+":443", ""); !strings.HasPrefix(head, "HTTP/1.1 429") {
		t.Errorf("one too many: %q", head)
	}
	for range 60 { // far over the limit nobody is even answered
		_ = w.dialEntrance("sidecar")
	}
	eventually(t, "cut back", func() bool { n := w.srv.table.count.Load(); return n >= 3 && n <= 20 })
}

func TestSlowHandshakesEnd(t *testing.T) {
	w := newWorld(t, withLimits(Limits{Handshake: 200 * time.Millisecond}))
	start := time.Now()
	for name, say := range map[string]string{"nothing": "", "half a hello": "\x16\x03\x01\x02\x00\x01\x00", "half a request": ""} {
		conn := w.dialEntrance("sidecar")
		if name != "half a request" {
			conn = w.tunnelTo("sidecar", echoHost+":443")
		} else {
			say = "CONNECT " + echoHost
		}
		_, _ = io.WriteString(conn, say)
		_, _ = io.Copy(io.Discard, conn)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("they were borne for %s", d)
	}
	w.wait(2, func(r record) bool { return r.Kind == "handshake" && r.Reason == "handshake_timeout" })
	tc := w.inside(echoHost+":443", echoHost)
	_, _ = io.WriteString(tc, "GET / HTTP/1.1\r\nHo")
	_, _ = io.Copy(io.Discard, tc)
	w.wait(1, func(r record) bool { return r.Reason == "bad_request" })
}

func TestIdleConnectionsEnd(t *testing.T) {
	w := newWorld(t, withLimits(Limits{Idle: 200 * time.Millisecond}))
	tc := w.inside(echoHost+":443", echoHost)
	_, _ = io.WriteString(tc, "GET / HTTP/1.1\r\nHost: "+echoHost+"\r\n\r\n")
	if b, err := io.ReadAll(tc); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200") {
		t.Errorf("%.40q %v", b, err)
	}
	eventually(t, "all places given back", func() bool { return len(w.srv.table.all()) == 0 && w.srv.table.count.Load() == 0 })
	if n := len(w.wait(1, any1)); n != 1 {
		t.Errorf("%d records", n)
	}
}

func TestStreamsEndAtTheirMaximumAge(t *testing.T) {
	w := newWorld(t, withLimits(Limits{MaxStream: 100 * time.Millisecond}))
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "GET", "https://"+echoHost+"/sse?n=5000", nil))
		start := time.Now()
		if _, err := io.Copy(io.Discard, resp.Body); err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("ended after %s with %v", time.Since(start), err)
		}
		if rec := w.recordOf(resp); rec.Reason != "max_stream" || rec.Layer != "limit" {
			t.Errorf("record %+v", rec)
		}
	})
}

// What callers can choose must not make labels.
func TestMetricsDoNotGrowWithTraffic(t *testing.T) {
	w := newWorld(t)
	c := w.client("sidecar")
	attack := func(i int) {
		r := request(t, "GET", fmt.Sprintf("https://%s/p%d?q%d=1", echoHost, i, i), nil)
		r.Method = fmt.Sprintf("M%d", i)
		_ = body(t, do(t, c, r))
		for _, authority := range []string{fmt.Sprintf("h%d.example:443", i), fmt.Sprintf("%s:%d", echoHost, 1000+i), fmt.Sprintf("bad%d", i)} {
			conn, _ := w.connect("sidecar", authority, fmt.Sprintf("X-%d: y\r\n", i))
			_ = conn.Close()
		}
		_ = w.forged(echoHost, fmt.Sprintf("s%d.example", i), "")
	}
	series := func() (n int) {
		for _, f := range must(w.reg.Gather())(t) {
			n += len(f.GetMetric())
		}
		return n
	}
	attack(0)
	w.wait(5, any1)
	before := series()
	for i := 1; i < 20; i++ {
		attack(i)
	}
	w.wait(100, any1)
	if after := series(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}
