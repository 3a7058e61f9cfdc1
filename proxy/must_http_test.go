// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/policy"
)

// hostileHeaders are spellings of what must not come from the caller.
var hostileHeaders = []string{
	"Authorization", "AUTHORIZATION", "authorization", "X-Api-Key", "X_API_KEY", "x-api_key", "X_Auth-Token", "Api-Key", "Token",
	"DD-API-KEY", "DD_APPLICATION_KEY", "X-Vault-Token", "Private-Token", "PRIVATE_TOKEN", "X-Amz-Security-Token", "Cookie",
	"Proxy-Authorization", "Proxy_Authorization", "Proxy-Foo", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X_Forwarded_Proto",
	"X-Forwarded-Client-Cert", "Via", "X-Real-IP", "X-Spiffe-Id", "X-HTTP-Method-Override", "X_HTTP_Method_Override", "X-HTTP-Method",
	"X-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix", "Egret-Decision", "Egret_Workload", "Impersonate-User",
	"Sudo", "X-On-Behalf-Of", "X-Goog-User-Project", "X-Vault-Namespace", "OpenAI-Organization", "Stripe-Account",
}

func TestMUST_H2_H3_H13_NoSpellingOfABarredHeaderPasses(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		r := request(t, "GET", "https://"+echoHost+"/", nil)
		for _, name := range hostileHeaders {
			r.Header[name] = []string{"hostile"}
		}
		r.Header["X-Plain"] = []string{"kept"}
		resp := do(t, c, r)
		rep := report(t, body(t, resp))
		if rep.Fingerprint != w.minter.last.Load().Fingerprint() || len(rep.Headers["Authorization"]) != 1 || len(rep.Headers["X-Plain"]) != 1 {
			t.Errorf("the SaaS saw %+v", rep)
		}
		for name, values := range rep.Headers {
			if name != "X-Plain" && slices.Contains(values, "hostile") {
				t.Errorf("%s passed", name)
			}
			for _, hostile := range hostileHeaders {
				if plainName(name) == plainName(hostile) && name != "Authorization" {
					t.Errorf("%s passed", name)
				}
			}
		}
		if rec := w.recordOf(resp); rec.CallerCredential != audit.CallerOwn {
			t.Errorf("record says %q of the caller's credentials", rec.CallerCredential)
		}
	})
}

func TestMUST_H13_ARuleMayNameAHeader(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules {
			r.AllowHeaders = []string{"X-Http-Method-Override", "Authorization", "Proxy-Foo"}
		}
	}))
	r := request(t, "POST", "https://"+echoHost+"/", nil)
	r.Header.Set("X-HTTP-Method-Override", "PATCH")
	r.Header.Set("Authorization", "Bearer own")
	rep := report(t, body(t, do(t, w.client("sidecar"), r)))
	if len(rep.Headers["X-Http-Method-Override"]) != 1 {
		t.Error("the named header did not pass")
	}
	if rep.Fingerprint != w.minter.last.Load().Fingerprint() {
		t.Error("a rule let the caller's own credential pass")
	}
}

func TestMUST_H2_WhatTheCallerSentIsInTheRecord(t *testing.T) {
	w := newWorld(t)
	c := w.client("sidecar")
	_, _ = w.get(c, "https://"+echoHost+"/")
	for value, want := range map[string]string{
		"": audit.CallerNone, "Bearer " + Placeholder: audit.CallerPlaceholder, "Bearer xoxb-own": audit.CallerOwn,
		"Bearer " + w.minter.last.Load().Reveal(): audit.CallerSameAsOurs,
	} {
		r := request(t, "GET", "https://"+echoHost+"/", nil)
		if value != "" {
			r.Header.Set("Authorization", value)
		}
		resp := do(t, c, r)
		_ = body(t, resp)
		if rec := w.recordOf(resp); rec.CallerCredential != want {
			t.Errorf("%.20q: record says %q, want %q", value, rec.CallerCredential, want)
		}
	}
}

func TestMUST_H3_ConnectionCannotDeleteOurCredential(t *testing.T) {
	w := newWorld(t)
	got := w.raw("GET / HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: close, Authorization, X-Foo\r\nX-Foo: 1\r\nTE: gzip, trailers\r\nKeep-Alive: timeout=5\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Fatalf("answer %q", got)
	}
	rep := w.echo.Reports()[0]
	if rep.Fingerprint == "" || rep.Headers["X-Foo"] != nil || rep.Headers["Keep-Alive"] != nil || rep.Headers["Connection"] != nil {
		t.Errorf("the SaaS saw %+v", rep)
	}
	if te := rep.Headers["Te"]; len(te) != 1 || te[0] != "trailers" {
		t.Errorf("TE was %q", te)
	}
}

func TestMUST_H4_CredentialsInTheQueryAreRefused(t *testing.T) {
	w := newWorld(t)
	c := w.client("sidecar")
	for _, q := range []string{"token=x", "a=1&TOKEN=x", "a=1;token=x", "api_key=x", "api-key=x", "Access_Token=x", "to%6ben=x", "%74oken=x",
		"token", "token[]=x", "access.token=x", "+token=x", "token%00=x", "X-Amz-Signature=x"} {
		resp, text := w.get(c, "https://"+echoHost+"/?"+q)
		if p := problemOf(t, text); resp.StatusCode != 403 || p.Reason != "credential_in_query" || strings.Contains(text, "=x") {
			t.Errorf("?%s: %d %s", q, resp.StatusCode, text)
		}
	}
	w.untouched()
	for _, q := range []string{"tokens=x", "q=token", "mytoken=1", "next=%26token%3Dx", ""} {
		if resp, _ := w.get(c, "https://"+echoHost+"/?"+q); resp.StatusCode != 200 {
			t.Errorf("?%s: %s", q, resp.Status)
		}
	}
}

func TestMUST_H5_MethodsAndUpgradesThatAreNeverForwarded(t *testing.T) {
	w := newWorld(t, withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules {
			r.Methods = nil // any
		}
	}))
	for _, m := range []string{"TRACE", "TRACK", "trace", "CONNECT", "Connect"} {
		if got := w.raw(m + " /x HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 405") && !strings.HasPrefix(got, "HTTP/1.1 400") {
			t.Errorf("%s: %.60q", m, got)
		}
	}
	for _, up := range []string{"h2c", "tcp", "websocket, h2c", "TLS/1.0"} {
		if got := w.raw("GET /ws HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: Upgrade, close\r\nUpgrade: " + up + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403") {
			t.Errorf("Upgrade: %s: %.60q", up, got)
		}
	}
	w.untouched()
}

func TestMUST_H6_TheSameBytesGoUpstream(t *testing.T) {
	w := newWorld(t)
	for _, target := range []string{
		"/a%20b?x=%zz&;=&&y=%2F", "/a!$&'()*+,:=@~b", "/%7Euser", "/%e2%82%ac", "/a|b^c`d{e}\"<f>", "/x?", "/x??a=b?c", "/x?a=b#c", "/x?q=%GG;;", "/x?a+b=%0a",
		"/[x]?y[]=1", "/a%5B%5D",
	} {
		before := len(w.echo.Reports())
		got := w.raw("GET " + target + " HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: close\r\n\r\n")
		reps := w.echo.Reports()
		if len(reps) != before+1 {
			t.Errorf("%s: %.40q", target, got)
			continue
		}
		path, query, _ := strings.Cut(target, "?")
		if rep := reps[before]; rep.Path != path || rep.Query != query {
			t.Errorf("%s became %s?%s", target, rep.Path, rep.Query)
		}
	}
}

func TestMUST_H6_AmbiguousPathsAreRefused(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/a/../b", "/a/./b", "/a/%2e%2e/b", "/a//b", "/a%2fb", "/a%5cb", "/a\\b", "/a%00", "/a%25b", "/a;b", "/a%3bb",
		"/a\x80", "/%ff", "/a#b", "/" + strings.Repeat("x", 9000)} {
		if got := w.raw("GET " + path + " HTTP/1.1\r\nHost: " + echoHost + "\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403") && !strings.HasPrefix(got, "HTTP/1.1 400") {
			t.Errorf("%.30q: %.40q", path, got)
		}
	}
	w.untouched()
}

func TestMUST_H7_MalformedRequestsAreRefusedAndRecorded(t *testing.T) {
	w := newWorld(t)
	head := "POST /x HTTP/1.1\r\nHost: " + echoHost + "\r\n"
	bad := map[string]string{
		"two lengths":             head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		"space before colon":      head + "Content-Length : 1\r\n\r\na",
		"folded header":           " X: y\r\n" + head + "\r\n",
		"unknown coding":          head + "Transfer-Encoding: xchunked\r\n\r\n",
		"two codings":             head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"coding with a tab":       head + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
		"negative length":         head + "Content-Length: -1\r\n\r\n",
		"length with a sign":      head + "Content-Length: +1\r\n\r\na",
		"two hosts":               head + "Host: evil.example\r\n\r\n",
		"no host":                 "GET /x HTTP/1.1\r\n\r\n",
		"NUL in a header":         head + "X: a\x00b\r\n\r\n",
		"line break in a name":    head + "X\rY: a\r\n\r\n",
		"a future version":        "GET /x HTTP/2.0\r\nHost: " + echoHost + "\r\n\r\n",
		"version without numbers": "GET /x HTTP/1.x\r\nHost: " + echoHost + "\r\n\r\n",
	}
	for name, text := range bad {
		t.Run(name, func(t *testing.T) {
			if got := w.raw(text); !strings.HasPrefix(got, "HTTP/1.1 4") && !strings.HasPrefix(got, "HTTP/1.1 5") {
				t.Errorf("answer %.80q", got)
			}
		})
	}
	w.wait(len(bad), func(r record) bool { return r.Verdict == "deny" })
	w.untouched()
}

func TestMUST_H7_BareLineFeedInAChunkEndsTheRequest(t *testing.T) {
	w := newWorld(t)
	got := w.raw("POST /x HTTP/1.1\r\nHost: " + echoHost + "\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n")
	if strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("answer %.80q", got)
	}
}

func TestMUST_H7_OfLengthAndCodingOnlyTheCodingGoesOn(t *testing.T) {
	w := newWorld(t)
	got := w.raw("POST /x HTTP/1.1\r\nHost: " + echoHost + "\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n" +
		"GET /smuggled HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")
	for _, rep := range w.echo.Reports() {
		if rep.Path != "/x" || rep.Length != -1 || rep.BodyBytes != 2 || rep.Headers["Content-Length"] != nil {
			t.Errorf("the SaaS saw %+v", rep)
		}
	}
	if strings.Contains(got, "smuggled") {
		t.Errorf("answer %q", got)
	}
}

// net/http unfolds header lines and takes bare line feeds between them. What is checked
// is the unfolded text, and only that goes on, written anew.
func TestMUST_H7_FoldedLinesAreWrittenAnew(t *testing.T) {
	w := newWorld(t)
	for _, head := range []string{
		"Host:\r\n " + echoHost + "\r\nX-A: b\r\n\tAuthorization: Bearer x\r\n",
		"Host: " + echoHost + "\nX-A: b\r\n Authorization: Bearer x\n",
	} {
		_ = w.raw("GET /x HTTP/1.1\r\n" + head + "Connection: close\r\n\r\n")
	}
	for _, rep := range w.echo.Reports() {
		if a := rep.Headers["X-A"]; rep.Host != echoHost || len(a) != 1 || a[0] != "b Authorization: Bearer x" || rep.Fingerprint != w.minter.last.Load().Fingerprint() {
			t.Errorf("the SaaS saw %+v", rep)
		}
	}
}

func TestMUST_H8_BytesBeforeThe200CloseTheConnection(t *testing.T) {
	w := newWorld(t)
	_, head := w.connect("sidecar", echoHost+":443", "\r\nGET / HTTP/1.1\r\nHost: evil.example\r\n")
	if !strings.HasPrefix(head, "HTTP/1.1 400 egret target/early_data") {
		t.Errorf("answer %q", head)
	}
	w.wait(1, func(r record) bool { return r.Reason == "early_data" && r.Workload == jobID })
	eventually(t, "places given back", func() bool { return w.srv.table.count.Load() == 0 && len(w.srv.table.all()) == 0 })
}

// h2Block encodes names and values.
func h2Block(fields ...string) []byte {
	var block bytes.Buffer
	enc := hpack.NewEncoder(&block)
	for i := 0; i+1 < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return block.Bytes()
}

// h2Raw sends one request as HTTP/2 frames, with fields that no client library would
// send, and returns the status; "" where the stream was reset.
func (w *world) h2Raw(fields ...string) string {
	w.t.Helper()
	tc := tls.Client(w.tunnelTo("sidecar", echoHost+":443"), &tls.Config{RootCAs: w.roots(), ServerName: echoHost, NextProtos: []string{"h2"}})
	if err := tc.Handshake(); err != nil {
		w.t.Fatal(err)
	}
	defer tc.Close()
	_, _ = io.WriteString(tc, http2.ClientPreface)
	fr := http2.NewFramer(tc, tc)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = fr.WriteSettings()
	_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h2Block(fields...), EndStream: true, EndHeaders: true})
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return ""
		}
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			return f.PseudoValue("status")
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return ""
		}
	}
}

func TestMUST_H1_HTTP2RequestsThatCouldBeReadInTwoWays(t *testing.T) {
	w := newWorld(t)
	base := []string{":method", "GET", ":scheme", "https", ":path", "/x", ":authority", echoHost}
	if got := w.h2Raw(base...); got != "200" {
		t.Fatalf("a plain request: %q", got)
	}
	before := len(w.echo.Reports())
	for name, fields := range map[string][]string{
		"host besides authority": append(slices.Clone(base), "host", "evil.example"),
		"two hosts":              append(slices.Clone(base), "host", echoHost, "host", "evil.example"),
		"host alone":             {":method", "GET", ":scheme", "https", ":path", "/x", "host", "evil.example"},
		"authority of another":   {":method", "GET", ":scheme", "https", ":path", "/x", ":authority", "evil.example"},
		"userinfo":               {":method", "GET", ":scheme", "https", ":path", "/x", ":authority", echoHost + "@evil.example"},
		"absolute path":          {":method", "GET", ":scheme", "https", ":path", "https://evil.example/", ":authority", echoHost},
		"star":                   {":method", "OPTIONS", ":scheme", "https", ":path", "*", ":authority", echoHost},
		"connect":                {":method", "CONNECT", ":authority", "evil.example:443"},
		"extended connect":       {":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/ws", ":authority", echoHost},
		"coding":                 append(slices.Clone(base), "transfer-encoding", "chunked"),
		"connection":             append(slices.Clone(base), "connection", "authorization"),
		"line break":             append(slices.Clone(base), "x", "a\r\nb: c"),
		"two paths":              append(slices.Clone(base), ":path", "/y"),
		"upper case":             append(slices.Clone(base), "X-Up", "a"),
		"empty path":             {":method", "GET", ":scheme", "https", ":path", "", ":authority", echoHost},
	} {
		if got := w.h2Raw(fields...); strings.HasPrefix(got, "2") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if reps := w.echo.Reports(); len(reps) != before {
		t.Errorf("the SaaS saw %+v", reps[before:])
	}
}

func TestMUST_H14_TrailersAreFilteredLikeHeaders(t *testing.T) {
	w := newWorld(t)
	both(t, w, func(t *testing.T, c *http.Client) {
		r := request(t, "POST", "https://"+echoHost+"/trailers", io.MultiReader(strings.NewReader("body")))
		r.Trailer = http.Header{"Checksum": {"abc"}, "Private-Token": {"x"}, "X_api_key": {"x"}, "Egret-Decision": {"x"}, "X-Forwarded-For": {"x"}}
		rep := report(t, body(t, do(t, c, r)))
		if len(rep.Trailers) != 1 || rep.Trailers["Checksum"] == nil {
			t.Errorf("the SaaS saw the trailers %v", rep.Trailers)
		}
	})
	got := w.raw("POST /trailers HTTP/1.1\r\nHost: " + echoHost + "\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\nConnection: close\r\n\r\n" +
		"1\r\na\r\n0\r\nChecksum: abc\r\nAuthorization: Bearer x\r\nX-Undeclared: y\r\n\r\n")
	reps := w.echo.Reports()
	if last := reps[len(reps)-1]; len(last.Trailers) != 1 || last.Trailers["Checksum"] == nil {
		t.Errorf("raw: the SaaS saw the trailers %v; answer %.60q", last.Trailers, got)
	}
}
