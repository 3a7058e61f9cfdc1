// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/policy"
)

// Whatever Go's own reading of a query finds as a credential, ours finds too.
func FuzzQueryProblem(f *testing.F) {
	for _, s := range []string{"", "token=x", "a=b&token", "a;api_key=1", "%74oken=1", "x=token", "token[]=1", "=&;=;", "%", "a=%zz&access.token=1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		reason, found := queryProblem(raw, &policy.Rule{})
		values, _ := url.ParseQuery(strings.ReplaceAll(raw, ";", "&"))
		for name := range values {
			if _, bad := queryCredentials[plainName(name)]; bad && found == "" {
				t.Errorf("%q holds %q", raw, name)
			}
		}
		if found != "" {
			_, cred := queryCredentials[found]
			_, doubtful := doubtfulParams[found]
			if (cred || doubtful) != (reason == reasonQueryCredential) {
				t.Errorf("%q: found %q, said to be %s", raw, found, reason)
			}
		}
	})
}

// No spelling of a credential or routing header survives, and nothing else is touched.
func FuzzCleanRequest(f *testing.F) {
	for _, s := range append(hostileHeaders, "Accept", "X-Plain", "", "X__Api--Key", "\u212ACookie", "authori\u017Fation") {
		f.Add(s, "value")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		h := http.Header{name: {value}, http.CanonicalHeaderKey(name): {value}, "X-Plain": {"kept"}}
		cleanRequest(h, &policy.Rule{AllowHeaders: []string{"Authorization"}}, "")
		for left := range h {
			plain := strings.ReplaceAll(strings.ToLower(left), "_", "-")
			if _, bad := credentialHeaders[plain]; bad || isRouting(plain) {
				t.Errorf("%q survived", left)
			}
		}
		if len(h["X-Plain"]) != 1 {
			t.Error("an innocent header is gone")
		}
	})
}

// Looking at a body changes nothing of it, and never finds what JSON does not hold.
func FuzzRefusedMatches(f *testing.F) {
	want := map[string][]string{"ok": {"false"}, "error": {"invalid_auth"}}
	for _, s := range []string{`{"ok":false,"error":"invalid_auth"}`, `{"error":"invalid_auth","x":{},"ok":false`, `{"ok":true,"error":"invalid_auth"}`, `[]`, ``, `{"ok":`, `{"a":{"ok":false}}`, `null`} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, zip bool) {
		sent := text
		h := http.Header{"Content-Type": {"application/json"}}
		if zip {
			var b bytes.Buffer
			z := gzip.NewWriter(&b)
			_, _ = z.Write(text)
			_ = z.Close()
			sent = b.Bytes()
			h.Set("Content-Encoding", "gzip")
		}
		resp := &http.Response{StatusCode: 200, Header: h, Body: io.NopCloser(bytes.NewReader(sent))}
		refused := refusedCredential(resp, &policy.Refused{JSON: want})
		if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes became %d, %v", len(sent), len(got), err)
		}
		var whole map[string]any
		if json.Unmarshal(text, &whole) == nil && refused {
			if _, has := whole["ok"]; !has {
				t.Errorf("%q counts as a refusal", text)
			}
		}
	})
}

// Whatever bytes come in as HTTP/1.1, the SaaS is only asked for the connection's host,
// with our credential, for a path that policy allows. Coverage over a network is not
// repeatable: run it with -fuzzminimizetime=5x.
func FuzzRawRequest(f *testing.F) {
	for _, s := range []string{
		"GET /open/x HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n",
		"GET /closed HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n",
		"GET /open/../closed HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n",
		"GET /open/x HTTP/1.1\r\nHost: evil.example\r\n\r\n",
		"GET https://evil.example/open/x HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n",
		"POST /open/x HTTP/1.1\r\nHost: " + echoHost + "\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /closed HTTP/1.1\r\nHost: " + echoHost + "\r\n\r\n",
		"POST /open/x HTTP/1.1\r\nHost: " + echoHost + "\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n1\r\na\r\n0\r\nAuthorization: x\r\n\r\n",
		"GET /open/x HTTP/1.0\r\nHost: " + echoHost + "\r\nConnection: Authorization\r\nX_Api_Key: a\r\n\r\n",
		"GET /open/x HTTP/1.1\nHost: " + echoHost + "\n\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\n", "\x16\x03\x01",
	} {
		f.Add([]byte(s))
	}
	w := newWorld(fuzzTB{f}, onlyPath("/open/**"), withLimits(Limits{Handshake: time.Second}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > 4<<10 {
			return
		}
		w.t = t
		before := len(w.echo.Reports())
		tc := w.inside(echoHost+":443", echoHost)
		_, _ = tc.Write(raw)
		_ = tc.CloseWrite()
		_ = tc.SetReadDeadline(time.Now().Add(2 * time.Second))
		_, _ = io.Copy(io.Discard, tc)
		_ = tc.Close()
		for _, rep := range w.echo.Reports()[before:] {
			if rep.Host != echoHost || rep.Path != "/open" && !strings.HasPrefix(rep.Path, "/open/") || policy.CheckPath(rep.Path, false) != nil ||
				len(rep.Headers["Authorization"]) != 1 || rep.Fingerprint != w.minter.last.Load().Fingerprint() {
				t.Errorf("%q made the SaaS see %+v", raw, rep)
			}
			for name := range rep.Headers {
				if plain := plainName(name); plain != "authorization" {
					if _, bad := credentialHeaders[plain]; bad || isRouting(plain) {
						t.Errorf("%q made the SaaS see the header %s", raw, name)
					}
				}
			}
		}
	})
}
