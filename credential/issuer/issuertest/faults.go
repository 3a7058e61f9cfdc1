// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package issuertest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
)

// Hush stands in what broken answers say, and must stand nowhere else.
const Hush = "hush-hush"

// Fault is one way in which an issuer is broken, with what must come of it.
type Fault struct {
	Name       string
	Minted     bool            // nothing is wrong enough: there is a token
	Kind       credential.Kind // where there is none
	RetryAfter time.Duration

	lifetime    string // a JSON text for the member that tells it
	answer      answerer
	certificate certificate
}

// answerer breaks the answer of a twin.
type answerer func(w http.ResponseWriter, r *http.Request, twin http.Handler)

type certificate int

const (
	goodCertificate certificate = iota
	strangersCertificate
	expiredCertificate
	othersCertificate
)

// Faults returns all that do not depend on the form of the answer.
func Faults() []Fault {
	var all []Fault
	for _, list := range [][]Fault{statuses(), connections(), bodies(), clocks()} {
		all = append(all, list...)
	}
	return all
}

func statuses() []Fault {
	unreachable, refused, nothing := credential.Unreachable, credential.Refused, credential.NotMinted
	return []Fault{
		{Name: "301 elsewhere", Kind: nothing, answer: status(301, "Location", "https://elsewhere.example/"+Hush)},
		{Name: "307 elsewhere", Kind: nothing, answer: status(307, "Location", "https://elsewhere.example/"+Hush)},
		{Name: "401", Kind: refused, answer: status(401)},
		{Name: "403", Kind: refused, answer: status(403)},
		{Name: "404", Kind: nothing, answer: status(404)},
		{Name: "408", Kind: unreachable, answer: status(408)},
		{Name: "429", Kind: unreachable, answer: status(429)},
		{Name: "429 with Retry-After", Kind: unreachable, RetryAfter: 2 * time.Minute, answer: status(429, "Retry-After", "120")},
		{Name: "429 until a time of its clock", Kind: unreachable, RetryAfter: time.Minute, answer: status(429,
			"Date", "Mon, 02 Jan 2006 15:04:05 GMT", "Retry-After", "Mon, 02 Jan 2006 15:05:05 GMT")},
		{Name: "500", Kind: unreachable, answer: status(500, "Retry-After", "-5")},
		{Name: "502", Kind: unreachable, answer: status(502, "Retry-After", "soon")},
		{Name: "503 with Retry-After", Kind: unreachable, RetryAfter: 7 * time.Second, answer: status(503, "Retry-After", "7")},
		{Name: "503 until a time that is over", Kind: unreachable, answer: status(503, "Retry-After", "Mon, 02 Jan 2006 15:05:05 GMT")},
	}
}

func status(code int, header ...string) answerer {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, Hush)
	}
}

func connections() []Fault {
	u := credential.Unreachable
	return []Fault{
		{Name: "silent", Kind: u, answer: silent},
		{Name: "endless", Kind: u, answer: endless},
		{Name: "reset", Kind: u, answer: reset},
		{Name: "closed", Kind: u, answer: wire("")},
		{Name: "breaks off", Kind: u, answer: wire("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{\"access_")},
		{Name: "quotes in the status", Kind: u, answer: wire("HTTP/1.1 " + Hush + "\r\n\r\n")},
		{Name: "quotes in a header", Kind: u, answer: wire("HTTP/1.1 200 OK\r\n" + Hush + "\r\n\r\n")},
		{Name: "quotes in a length", Kind: u, answer: wire("HTTP/1.1 200 OK\r\nContent-Length: " + Hush + "\r\n\r\n")},
		{Name: "quotes in an encoding", Kind: u, answer: wire("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + Hush + "\r\n\r\n")},
		{Name: "quotes in a trailer", Kind: u, answer: wire("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + Hush + "\r\n\r\n")},
		{Name: "huge header", Kind: u, answer: wire("HTTP/1.1 200 OK\r\nX: " + strings.Repeat(Hush, 40_000) + "\r\n\r\n")},
		{Name: "certificate of a stranger", Kind: u, certificate: strangersCertificate},
		{Name: "certificate that is over", Kind: u, certificate: expiredCertificate},
		{Name: "certificate of another host", Kind: u, certificate: othersCertificate},
	}
}

// wire answers with these bytes and closes.
func wire(text string) answerer {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}
}

func reset(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		if tcp, ok := t.NetConn().(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
			_ = tcp.Close()
		}
	}
	_ = c.Close()
}

func silent(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body) // net/http sees the end of a connection only after that
	<-r.Context().Done()
}

// endless sends a byte now and then: each read succeeds, and none is the last.
func endless(w http.ResponseWriter, r *http.Request, _ http.Handler) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(w, " "); err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			panic(http.ErrAbortHandler) // a return would end the answer in good order
		case <-tick.C:
		}
	}
}

func bodies() []Fault {
	n := credential.NotMinted
	return []Fault{
		{Name: "no content", Kind: n, answer: status(204)},
		{Name: "empty", Kind: n, answer: body(func([]byte) []byte { return nil })},
		{Name: "half", Kind: n, answer: body(func(b []byte) []byte { return b[:len(b)/2] })},
		{Name: "twice", Kind: n, answer: body(func(b []byte) []byte { return bytes.Repeat(b, 2) })},
		{Name: "null", Kind: n, answer: body(func([]byte) []byte { return []byte("null") })},
		{Name: "a list", Kind: n, answer: body(func([]byte) []byte { return []byte(`["` + Hush + `"]`) })},
		{Name: "an empty object", Kind: n, answer: body(func([]byte) []byte { return []byte(`{}`) })},
		{Name: "something else", Kind: n, answer: body(func([]byte) []byte { return []byte(`{"a":"` + Hush + `"}`) })},
		{Name: "not UTF-8", Kind: n, answer: body(func(b []byte) []byte { return bytes.Replace(b, []byte(`{`), []byte("{\"x\":\"\xff\","), 1) })},
		{Name: "packed", Kind: n, answer: body(packed)},
		{Name: "huge", Kind: n, answer: body(func(b []byte) []byte { return append(b, bytes.Repeat([]byte(" "), 6<<20)...) })},
		{Name: "wrong type", Kind: n, answer: with("Content-Type", "text/html; charset=utf-8")},
		{Name: "type that is none", Kind: n, answer: with("Content-Type", ";;")},
	}
}

func packed(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

// body changes what the twin says, and with says it under another header.
func body(change func([]byte) []byte) answerer {
	return func(w http.ResponseWriter, r *http.Request, twin http.Handler) {
		say(w, heard(r, twin), change, "", "")
	}
}

func with(name, value string) answerer {
	return func(w http.ResponseWriter, r *http.Request, twin http.Handler) {
		say(w, heard(r, twin), bytes.Clone, name, value)
	}
}

func heard(r *http.Request, twin http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	twin.ServeHTTP(rec, r)
	return rec
}

func say(w http.ResponseWriter, rec *httptest.ResponseRecorder, change func([]byte) []byte, name, value string) {
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
	if name != "" {
		w.Header().Set(name, value)
	}
	w.Header().Del("Content-Length")
	w.WriteHeader(rec.Code)
	_, _ = w.Write(change(rec.Body.Bytes()))
}

// clocks do not matter: lifetimes are relative.
func clocks() []Fault {
	var all []Fault
	for _, d := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		all = append(all, Fault{Name: fmt.Sprintf("clock differs by %s", d), Minted: true,
			answer: func(w http.ResponseWriter, r *http.Request, twin http.Handler) {
				w.Header().Set("Date", time.Now().Add(d).UTC().Format(http.TimeFormat))
				twin.ServeHTTP(w, r)
			}})
	}
	return all
}

// lifetimes are what issuers say of a token's life that must not be believed (MUST C5).
// member is the one that tells it.
func lifetimes(member string) []Fault {
	var all []Fault
	for _, raw := range []string{"", `0`, `-1`, `"-1"`, `null`, `"soon"`, `""`, `true`, `[3600]`, `"NaN"`, `1e300`, `"Inf"`, `9999999999`} {
		all = append(all, Fault{Name: "lifetime " + raw, Minted: true, lifetime: "x" + raw,
			answer: body(func(b []byte) []byte { return replaced(b, member, raw) })})
	}
	return all
}

// replaced sets a member of a JSON object, or takes it out.
func replaced(b []byte, member, raw string) []byte {
	var o map[string]json.RawMessage
	if json.Unmarshal(b, &o) != nil {
		return b
	}
	delete(o, member)
	if raw != "" {
		o[member] = json.RawMessage(raw)
	}
	out, err := json.Marshal(o)
	if err != nil {
		return b
	}
	return out
}
