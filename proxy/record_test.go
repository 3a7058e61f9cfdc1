// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/policy"
)

func TestDenialsNameTheNearestPolicy(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*policy.Rule)
		reason policy.Reason
		detail string
	}{
		"path":   {func(r *policy.Rule) { r.PathTemplate = "/api/chat.postMessage" }, policy.ReasonPathNotAllowed, "has other paths (/api/chat.postMessage)"},
		"method": {func(r *policy.Rule) { r.Methods = []string{"POST", "PUT"} }, policy.ReasonMethodNotAllowed, "has method POST, PUT only"},
		"ended": {func(r *policy.Rule) { r.Expires = time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC) },
			policy.ReasonExpired, "ended on 2025-06-30"},
	} {
		w := newWorld(t, withPolicy(func(s *policy.Set) {
			for _, r := range s.Rules {
				tc.change(r)
			}
		}))
		resp, text := w.get(w.client("sidecar"), "https://"+echoHost+"/secret-path/a?q=secret-path")
		rec := w.recordOf(resp)
		if got := policy.Reason(rec.Layer + "/" + rec.Reason); got != tc.reason || rec.Verdict != "deny" {
			t.Errorf("%s: %s, verdict %s", name, got, rec.Verdict)
		}
		if rec.Policy != "dashboard-echo" || rec.PolicyDigest != "d1g3st" || rec.Owner != "qa@acme.example" || rec.PathTemplate != "" {
			t.Errorf("%s: record %+v", name, rec)
		}
		if want := `nearest: policy "dashboard-echo" ` + tc.detail; rec.Detail != want {
			t.Errorf("%s: detail %q, want %q", name, rec.Detail, want)
		}
		if strings.Contains(w.records.text(), "secret-path") || strings.Contains(text, "dashboard-echo") {
			t.Errorf("%s: the path is in a record, or the application is told the policy: %s", name, text)
		}
	}
}

func TestExplainingIsBounded(t *testing.T) {
	var e explaining
	now, n := time.Unix(1, 0), 0
	for range 10 * explainRate {
		if e.allowed(now) {
			n++
		}
	}
	if n != explainRate || !e.allowed(now.Add(time.Second)) {
		t.Errorf("%d in one second", n)
	}
}

// Records, the metric egret_policy_info and the log name the set in force alike.
func TestRecordsNameThePolicySet(t *testing.T) {
	w := newWorld(t)
	c := w.client("sidecar")
	first, _ := w.get(c, "https://"+echoHost+"/a")
	w.reload(func(s *policy.Set) { s.Digest = "set2" })
	second, _ := w.get(c, "https://"+echoHost+"/a")
	if a, b := w.recordOf(first).PolicySet, w.recordOf(second).PolicySet; a != "set1" || b != "set2" {
		t.Errorf("%q, then %q", a, b)
	}
	_, _ = w.connect("sidecar", "unlisted.example:443", "")
	if r := w.wait(3, any1)[2]; r.PolicySet != "set2" || r.Verdict != "deny" {
		t.Errorf("refused CONNECT: %+v", r)
	}
}

// What the SaaS breaks off was allowed all the same; what egret refuses was not.
func TestTheVerdictIsThatOfPolicy(t *testing.T) {
	w := newWorld(t)
	w.dialTo(h1Host, w.listenTLS(h1Host, []string{"http/1.1"}, func(c *tls.Conn) {
		_, _ = http.ReadRequest(bufio.NewReader(c))
	}))
	resp, _ := w.get(w.client("sidecar"), "https://"+h1Host+"/a")
	if r := w.recordOf(resp); r.Verdict != "allow" || r.Layer != "upstream" || r.Status != http.StatusBadGateway {
		t.Errorf("reset: %+v", r)
	}
	w = newWorld(t)
	w.minter.fail.Store(errUnreachable)
	resp, _ = w.get(w.client("sidecar"), "https://"+echoHost+"/a")
	if r := w.recordOf(resp); r.Verdict != "deny" || r.Layer != "credential" {
		t.Errorf("no credential: %+v", r)
	}
}

// net/http answers these itself; the record says how, as far as it can be known.
func TestRequestsThatNobodyReadHaveAStatusAndWords(t *testing.T) {
	const head = "GET / HTTP/1.1\r\nHost: " + echoHost + "\r\n"
	for name, tc := range map[string]struct {
		request, detail string
		status          int
	}{
		"not HTTP":      {"what is this?\r\n\r\n", "not a valid HTTP request", 400},
		"bad header":    {head + "no colon\r\n\r\n", "not a valid HTTP request", 400},
		"huge header":   {head + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "far too large", 431},
		"half a header": {head + "X-Half: " + strings.Repeat("x", 100), "no whole request came", 408},
	} {
		w := newWorld(t, withLimits(Limits{Handshake: time.Second}))
		conn := w.inside(echoHost+":443", echoHost)
		time.Sleep(50 * time.Millisecond) // what is read together with the handshake counts as its
		_, _ = io.WriteString(conn, tc.request)
		answer, _ := io.ReadAll(conn)
		if want := fmt.Sprintf("HTTP/1.1 %d ", tc.status); len(answer) > 0 && !strings.HasPrefix(string(answer), want) {
			t.Errorf("%s: answered %.40q, the record will say %d", name, answer, tc.status)
		}
		r := w.wait(1, any1)[0]
		if r.Reason != "bad_request" || r.Status != tc.status || !strings.Contains(r.Detail, tc.detail) || r.Verdict != "deny" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
