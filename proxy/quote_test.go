// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/policy"
)

// echoesInto answers each request with raw bytes in which SECRET is the credential that
// came with it.
func echoesInto(wire string) func(*tls.Conn) {
	return func(c *tls.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		secret := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, _ = io.WriteString(c, strings.ReplaceAll(wire, "SECRET", secret))
	}
}

// An upstream that sends the credential back where HTTP has no place for it gets it into
// the errors of net/http, but into nothing that egret writes.
func TestMUST_C9_MalformedAnswersAreNotQuoted(t *testing.T) {
	for name, wire := range map[string]string{
		"status code":        "HTTP/1.1 SECRET\r\n\r\n",
		"status line":        "SECRET\r\n\r\n",
		"version":            "HTTP/SECRET 200 OK\r\n\r\n",
		"header line":        "HTTP/1.1 200 OK\r\nSECRET\r\n\r\n",
		"content length":     "HTTP/1.1 200 OK\r\nContent-Length: SECRET\r\n\r\n",
		"transfer encoding":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: SECRET\r\n\r\n",
		"chunk":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n",
		"trailer":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nSECRET\r\n\r\n",
		"switched protocol":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SECRET\r\n\r\n",
		"informational line": "HTTP/1.1 103 Early Hints\r\nSECRET\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.dialTo(h1Host, w.listenTLS(h1Host, []string{"http/1.1"}, echoesInto(wire)))
			r := request(t, "GET", "https://"+h1Host+"/a", nil)
			if name == "switched protocol" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "websocket")
			}
			if resp, err := w.client("sidecar", http1).Do(r); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			rec := w.wait(1, any1)[0]
			if rec.Layer != "upstream" || rec.Detail == "" {
				t.Errorf("record %+v", rec)
			}
			tok := w.minter.last.Load().Reveal()
			for what, text := range map[string]string{"records": w.records.text(), "log": w.logs.String()} {
				if strings.Contains(text, tok) {
					t.Errorf("the credential is in the %s: %s", what, text)
				}
			}
		})
	}
}

// jobCaller is known for an hour.
type jobCaller struct{ identity.Caller }

func (jobCaller) Workload() (identity.Workload, error) {
	return identity.Workload{ID: spiffeid.RequireFromString(jobID), Evidence: identity.EvidenceSidecar, Expires: time.Now().Add(time.Hour)}, nil
}

func TestMUST_C9_ProbeDoesNotQuoteTheUpstream(t *testing.T) {
	w := newWorld(t)
	w.dialTo(h1Host, w.listenTLS(h1Host, []string{"http/1.1"}, echoesInto("HTTP/1.1 SECRET\r\n\r\n")))
	walk := w.srv.Probe(t.Context(), jobCaller{},
		policy.Request{Target: policy.Target{Host: h1Host, Port: 443}, Method: "GET", Path: "/a"}, "")
	last := walk.Stages[len(walk.Stages)-1]
	if last.OK || last.Name != "upstream" || strings.Contains(last.Detail, w.minter.last.Load().Reveal()) {
		t.Errorf("%+v", last)
	}
}

func TestLibraryLogLeavesOutWhatIsQuoted(t *testing.T) {
	w := newWorld(t)
	libraryLog(w.srv.deps.Logger).Printf("http: invalid Content-Length of %q", "hush")
	if got := w.logs.String(); strings.Contains(got, "hush") || !strings.Contains(got, "invalid Content-Length of …") {
		t.Error(got)
	}
}
