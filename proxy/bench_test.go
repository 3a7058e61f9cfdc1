// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/saas"
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

// maxAllocations is what one intercepted GET over HTTP/1.1 may allocate: egret, with the
// standard client and server of both its sides and the origin's server. The measuring
// client itself allocates nothing. Lower it when it is beaten.
const maxAllocations = 130

func TestAllocationsOfAnInterceptedGET(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	w := newWorld(t, func(c *worldConfig) {
		c.hosts = append(c.hosts, saas.Host{Name: otherHost, Handler: http.HandlerFunc(quietHandler)})
	})
	tc := w.inside(otherHost+":443", otherHost)
	_ = tc.SetDeadline(time.Now().Add(time.Minute))
	br := bufio.NewReader(tc)
	ask := []byte("GET /x HTTP/1.1\r\nHost: " + otherHost + "\r\n\r\n")
	get := func() {
		_, _ = tc.Write(ask)
		for body := false; ; {
			line, err := br.ReadSlice('\n')
			if err != nil {
				t.Fatal(err)
			}
			if len(line) == 2 {
				body = true
			}
			if body {
				_, _ = br.Discard(2)
				return
			}
		}
	}
	for range 50 {
		get()
	}
	n := testing.AllocsPerRun(500, get)
	t.Logf("%.0f allocations for one intercepted GET", n)
	if n > maxAllocations {
		t.Errorf("%.0f allocations, the ceiling is %d", n, maxAllocations)
	}
}
