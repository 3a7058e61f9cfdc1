// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/egret-proxy/egret/policy"
)

func withMask() option {
	return withPolicy(func(s *policy.Set) {
		for _, r := range s.Rules {
			r.Mask = true
		}
	})
}

// reflecting is an origin that sends the credential back in one of many ways.
func reflecting(rw http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	flush := func(s string) { _, _ = io.WriteString(rw, s); _ = http.NewResponseController(rw).Flush() }
	switch r.URL.Path {
	case "/length":
		rw.Header().Set("Content-Length", itoa(len(token)+8))
		flush("you: " + token + "\n..")
	case "/pieces":
		for i := range len(token) {
			flush(token[i : i+1])
		}
	case "/trailer":
		rw.Header().Set("Trailer", "X-End")
		flush("a " + token + " b")
		rw.Header().Set("X-End", "fine")
	case "/gzip":
		rw.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(rw)
		_, _ = io.WriteString(z, token)
		_ = z.Close()
	case "/part":
		rw.WriteHeader(http.StatusPartialContent)
		flush(token[:4])
	case "/asked":
		flush(r.Header.Get("Accept-Encoding") + "|" + r.Header.Get("Range") + r.Header.Get("If-Range"))
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestMUST_H10_BodiesAreMaskedAtTheSameLength(t *testing.T) {
	w := newWorld(t, withHandler(reflecting), withMask())
	both(t, w, func(t *testing.T, c *http.Client) {
		for path, want := range map[string]string{"/length": "you: *\n..", "/pieces": "*", "/trailer": "a * b"} {
			resp := do(t, c, request(t, "GET", "https://"+otherHost+path, nil))
			got := body(t, resp)
			token := w.minter.last.Load().Reveal()
			if want = strings.ReplaceAll(want, "*", strings.Repeat("*", len(token))); got != want {
				t.Errorf("%s: %q", path, got)
			}
			if path == "/trailer" && resp.Trailer.Get("X-End") != "fine" {
				t.Errorf("trailer %v", resp.Trailer)
			}
			if path == "/length" && resp.ContentLength != int64(len(want)) {
				t.Errorf("length %d", resp.ContentLength)
			}
		}
	})
}

func TestMUST_H10_WhatCannotBeMaskedIsNotAskedForAndNotPassed(t *testing.T) {
	w := newWorld(t, withHandler(reflecting), withMask())
	both(t, w, func(t *testing.T, c *http.Client) {
		r := request(t, "GET", "https://"+otherHost+"/asked", nil)
		r.Header.Set("Accept-Encoding", "br, gzip")
		r.Header.Set("Range", "bytes=5-9") // the credential in pieces
		r.Header.Set("If-Range", "x")
		if got := body(t, do(t, c, r)); got != "identity|" {
			t.Errorf("asked for %q", got)
		}
		for _, path := range []string{"/gzip", "/part"} {
			resp := do(t, c, request(t, "GET", "https://"+otherHost+path, nil))
			text := body(t, resp)
			if p := problemOf(t, text); resp.StatusCode != 502 || p.Layer != "upstream" || p.Reason != "encoded_body" {
				t.Errorf("%s: %d %s", path, resp.StatusCode, text)
			}
			if rec := w.recordOf(resp); rec.Verdict != "allow" {
				t.Errorf("record %+v", rec)
			}
		}
	})
}

func TestMUST_H10_WithoutMaskBodiesPassAsTheyAre(t *testing.T) {
	w := newWorld(t, withHandler(reflecting))
	_, got := w.get(w.client("sidecar"), "https://"+otherHost+"/pieces")
	if got != w.minter.last.Load().Reveal() {
		t.Errorf("%q", got)
	}
}

// Events must not wait for the next one.
func TestMUST_H10_MaskingDoesNotHoldUpAStream(t *testing.T) {
	next := make(chan struct{})
	w := newWorld(t, withMask(), withHandler(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/event-stream")
		for range 3 {
			_, _ = io.WriteString(rw, "data: "+r.Header.Get("Authorization")+"\n\n")
			_ = http.NewResponseController(rw).Flush()
			<-next
		}
	}))
	both(t, w, func(t *testing.T, c *http.Client) {
		resp := do(t, c, request(t, "GET", "https://"+otherHost+"/", nil))
		defer resp.Body.Close()
		want := "data: Bearer " + strings.Repeat("*", len(w.minter.last.Load().Reveal())) + "\n\n"
		for range 3 {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v", got, err)
			}
			next <- struct{}{}
		}
	})
}

// maskAll is what a masked body must be: every byte of every occurrence replaced.
func maskAll(text string, m *mask) string {
	out := []byte(text)
	for i := range len(text) {
		for _, v := range m.values {
			if n, got := v.at(text[i:], true); got == full {
				copy(out[i:], strings.Repeat("*", n))
			}
		}
	}
	return string(out)
}

func readMasked(t testing.TB, r io.Reader, values ...string) string {
	t.Helper()
	b, err := io.ReadAll(&maskedBody{src: io.NopCloser(r), mask: newMask(values)})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestMaskedForms(t *testing.T) {
	secret := `a"b/c<d>+e%f g\h`
	inJSON, _ := json.Marshal(secret)
	inURL := url.QueryEscape(secret)
	for name, form := range map[string]string{
		"plain": secret, "JSON": string(inJSON[1 : len(inJSON)-1]), "query": inURL, "path": url.PathEscape(secret),
		"JSON of JavaScript": `a\"b\/c<d>+e%f g\\h`, "lower case": strings.NewReplacer("%2B", "%2b", "%2F", "%2f", "%3C", "%3c", "%3E", "%3e", "%5C", "%5c").Replace(inURL),
		"System.Text.Json": `a\u0022b/c\u003Cd\u003E\u002Be%f g\\h`, "slash": strings.ReplaceAll(inURL, "%2F", "/"), "\\u002f": `a\"b\u002fc<d>+e%f g\u005Ch`,
		"all": everyByte(secret, `\u%04x`), "ALL": everyByte(secret, `\u%04X`), "all, twice": everyByte(secret, `\\\\u%04X`), "all of a URL": everyByte(secret, "%%%02x"),
		"JSON in JSON": twice(t, string(inJSON)), "JSON in JSON in JSON": twice(t, `"`+twice(t, string(inJSON))+`"`), "%20": strings.ReplaceAll(inURL, "+", "%20"),
	} {
		if got := readMasked(t, strings.NewReader("x"+form+"y"), secret); got != "x"+strings.Repeat("*", len(form))+"y" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func everyByte(s, format string) (out string) {
	for i := range len(s) {
		out += fmt.Sprintf(format, s[i])
	}
	return out
}

// twice is the inside of a JSON string, as it stands within another one.
func twice(t *testing.T, quoted string) string {
	t.Helper()
	b := must(json.Marshal(quoted[1 : len(quoted)-1]))(t)
	return string(b[1 : len(b)-1])
}

func TestMUST_H10_HeadersThatHoldTheCredentialInAnySpellingAreRemoved(t *testing.T) {
	const token = `t0ken-ab/c+d"e-1`
	w := newWorld(t, withHandler(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("X-Js", `{"a":"t0ken-ab/c\u002Bd\"e-1"}`)
		rw.Header().Set("Link", `<https://x/?t=t0ken-ab/c%2bd%22e-1>`)
		rw.Header().Set("X-Upper", strings.ToUpper(token))
		rw.Header().Set("X-Lower", strings.ToLower(token))
		rw.Header().Set("X-Fine", "t0ken-ab")
	}))
	value := token
	w.minter.poison.Store(&value)
	both(t, w, func(t *testing.T, c *http.Client) {
		resp, _ := w.get(c, "https://"+otherHost+"/")
		for _, name := range []string{"X-Js", "Link", "X-Upper", "X-Lower"} {
			if v := resp.Header.Get(name); v != "" {
				t.Errorf("%s: %s", name, v)
			}
		}
		if resp.Header.Get("X-Fine") == "" {
			t.Error("an innocent header is gone")
		}
	})
	h := http.Header{"X-T0ken-Abcd": {"1"}, "X-Other": {"1"}}
	if dropReflected(h, []string{"t0ken-abcd"}); len(h) != 1 {
		t.Errorf("a name: %v", h)
	}
}

func TestMaskedBodyKeepsErrorsAndWhatWasHeldBack(t *testing.T) {
	broken := errors.New("broken")
	b := &maskedBody{src: io.NopCloser(io.MultiReader(strings.NewReader("x secr"), iotest.ErrReader(broken))), mask: newMask([]string{"secret-value"})}
	got, err := io.ReadAll(b)
	if string(got) != "x secr" || !errors.Is(err, broken) {
		t.Errorf("%q, %v", got, err)
	}
}

// FuzzMask: however the bytes come and however they are read, what comes out is the text
// with every occurrence masked, overlapping ones too.
func FuzzMask(f *testing.F) {
	f.Add("you sent secret-value, and secret-valsecret-value", "secret-value", "value, an", uint64(1))
	f.Add("aaaaaaaaaaaaaaaaaaaa", "aaaaaaaa", "aaaab", uint64(2))
	f.Add("abababababab", "ababab", "bababa", uint64(3))
	f.Fuzz(func(t *testing.T, text, one, two string, seed uint64) {
		if one == "" || two == "" {
			return
		}
		m := newMask([]string{one, two})
		rnd := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // sizes of reads
		b := &maskedBody{src: io.NopCloser(&ragged{r: strings.NewReader(text), rnd: rnd}), mask: m}
		var got bytes.Buffer
		for {
			p := make([]byte, 1+rnd.IntN(9))
			n, err := b.Read(p)
			got.Write(p[:n])
			if err != nil {
				break
			}
		}
		if want := maskAll(text, m); got.String() != want {
			t.Errorf("%q without %q and %q: %q, want %q", text, one, two, got.String(), want)
		}
	})
}

// ragged reads a few bytes at once.
type ragged struct {
	r   io.Reader
	rnd *rand.Rand
}

func (r *ragged) Read(p []byte) (int, error) {
	return r.r.Read(p[:min(len(p), 1+r.rnd.IntN(7))])
}

func BenchmarkMask(b *testing.B) {
	chunk := bytes.Repeat([]byte("The quick brown fox jumps over the lazy dog. "), 1<<15)
	for name, values := range map[string][]string{
		"token":   {"xoxb-2839283928-3948394839-aBcDeFgHiJkLmNoPqRsTuVwX"},
		"escaped": {"a/b+c==d&e<f>-2839283928-3948394839"},
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(chunk)))
			b.ReportAllocs()
			for b.Loop() {
				if n, err := io.Copy(struct{ io.Writer }{io.Discard}, &maskedBody{src: io.NopCloser(bytes.NewReader(chunk)), mask: newMask(values)}); n != int64(len(chunk)) || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
