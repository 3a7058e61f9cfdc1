// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
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
func maskAll(text string, forms [][]byte) string {
	out := []byte(text)
	for _, f := range forms {
		for i := 0; i+len(f) <= len(text); i++ {
			if text[i:i+len(f)] == string(f) {
				copy(out[i:], strings.Repeat("*", len(f)))
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
		"JSON of JavaScript": `a\"b\/c<d>+e%f g\\h`, "lower case": lowerEscapes(inURL), "%20": strings.ReplaceAll(inURL, "+", "%20"),
	} {
		if got := readMasked(t, strings.NewReader("x"+form+"y"), secret); got != "x"+strings.Repeat("*", len(form))+"y" {
			t.Errorf("%s: %q", name, got)
		}
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
		if want := maskAll(text, m.forms); got.String() != want {
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
