// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// masked reports whether the answer's body must be masked (MUST H10).
func (x *exchange) masked() bool {
	return x.cred != nil && !x.observed && x.decision.Rule != nil && x.decision.Rule.Mask
}

// askPlain asks for an answer that can be masked: whole, and as it is. A range would cut
// the credential into pieces that are not found.
func askPlain(h http.Header) {
	for name := range h {
		switch plainName(name) {
		case "accept-encoding", "grpc-accept-encoding", "connect-accept-encoding", "range", "if-range", "a-im":
			delete(h, name)
		}
	}
	h.Set("Accept-Encoding", "identity")
}

// maskBody puts the mask over an answer. One that is encoded all the same is refused: the
// credential could be in it, and the policy says that the application must not get it.
func (x *exchange) maskBody(resp *http.Response) error {
	for _, name := range []string{"Content-Encoding", "Grpc-Encoding", "Connect-Content-Encoding"} {
		for _, v := range resp.Header[name] {
			if v = strings.ToLower(strings.TrimSpace(v)); v != "" && v != "identity" {
				return refuse(reasonEncoded, errors.New("the answer is encoded, although the request asked for none"))
			}
		}
	}
	if resp.StatusCode == http.StatusPartialContent {
		return refuse(reasonEncoded, errors.New("the answer is a part, although the request asked for the whole"))
	}
	if m := newMask(x.injected); len(m.forms) > 0 && resp.Body != nil {
		resp.Body = &maskedBody{src: resp.Body, mask: m}
	}
	return nil
}

// mask finds the forms of values. Immutable.
type mask struct {
	forms   [][]byte
	anchors []anchor
	longest int
}

// anchor is a part of a value that no form writes otherwise. One search for it finds all
// forms.
type anchor struct {
	text  []byte
	forms []anchored
}

type anchored struct {
	form []byte
	at   int // where in it the anchor stands
}

func newMask(values []string) *mask {
	m := &mask{}
	for _, v := range values {
		m.add(v)
	}
	return m
}

func (m *mask) add(value string) {
	a := anchor{text: []byte(verbatim(value))}
	for _, form := range formsOf(value) {
		if slices.ContainsFunc(m.forms, func(f []byte) bool { return string(f) == form }) {
			continue
		}
		f := []byte(form)
		m.forms, m.longest = append(m.forms, f), max(m.longest, len(f))
		if at := bytes.Index(f, a.text); len(a.text) >= minAnchor && at >= 0 {
			a.forms = append(a.forms, anchored{f, at})
		} else {
			m.anchors = append(m.anchors, anchor{f, []anchored{{form: f}}})
		}
	}
	if len(a.forms) > 0 {
		m.anchors = append(m.anchors, a)
	}
}

// minAnchor is the length from which a search for an anchor pays.
const minAnchor = 4

// verbatim returns the longest part of a value that neither JSON nor URLs escape.
func verbatim(value string) (longest string) {
	for part := range strings.FieldsFuncSeq(value, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}) {
		if len(part) > len(longest) {
			longest = part
		}
	}
	return longest
}

// formsOf returns a value as texts write it: plain, in JSON, in a URL.
func formsOf(v string) []string {
	inJSON := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(v) // a header's value has no control bytes
	forHTML := strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`)
	query, path := url.QueryEscape(v), url.PathEscape(v)
	return []string{
		v, inJSON, forHTML.Replace(inJSON), strings.ReplaceAll(inJSON, "/", `\/`), forHTML.Replace(strings.ReplaceAll(inJSON, "/", `\/`)),
		query, path, lowerEscapes(query), lowerEscapes(path), strings.ReplaceAll(query, "+", "%20"),
	}
}

// lowerEscapes writes %2F as %2f.
func lowerEscapes(s string) string {
	b := []byte(s)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
		}
	}
	return string(b)
}

// span is a range of bytes to overwrite.
type span struct{ from, to int }

// maskBuffer is how much is read at once, besides what is held back.
const maskBuffer = 32 << 10

// maskedBody overwrites every byte of every form with an asterisk, so that no length
// changes. It passes on at once what cannot be the beginning of a form, and holds back
// only what can. For one reader.
type maskedBody struct {
	src  io.ReadCloser
	mask *mask
	buf  []byte
	out  []byte // of buf, ready
	held []byte // of buf, behind out: may be the beginning of a form; not yet overwritten
	hide []span // of held, known already
	err  error
}

// Read implements io.Reader.
func (b *maskedBody) Read(p []byte) (int, error) {
	for len(p) > 0 && len(b.out) == 0 && b.err == nil {
		b.fill()
	}
	if len(b.out) == 0 && len(p) > 0 {
		return 0, b.err
	}
	n := copy(p, b.out)
	b.out = b.out[n:]
	return n, nil
}

// Close implements io.Closer.
func (b *maskedBody) Close() error { return b.src.Close() }

// fill reads once and makes ready what can go.
func (b *maskedBody) fill() {
	if b.buf == nil {
		b.buf = make([]byte, b.mask.longest+maskBuffer)
	}
	old := copy(b.buf, b.held)
	n, err := b.src.Read(b.buf[old:])
	b.err = err
	window := b.buf[:old+n]
	b.hide = b.mask.find(window, old, b.hide)
	cut := len(window)
	if err == nil {
		cut = b.mask.safe(window)
	}
	rest := b.hide[:0]
	for _, s := range b.hide {
		for i := s.from; i < min(s.to, cut); i++ {
			window[i] = '*'
		}
		if s.to > cut {
			rest = append(rest, span{max(s.from, cut) - cut, s.to - cut})
		}
	}
	b.out, b.held, b.hide = window[:cut], window[cut:], rest
}

// find adds the places of all forms that end behind the first old bytes, which have been
// searched before, and maybe some of those. Places may overlap.
func (m *mask) find(window []byte, old int, spans []span) []span {
	for i := range m.anchors {
		a := &m.anchors[i]
		for at := max(0, old-m.longest); ; {
			i := bytes.Index(window[at:], a.text)
			if i < 0 {
				break
			}
			spans = a.around(window, at+i, spans)
			at += i + 1
		}
	}
	return spans
}

// around adds the forms whose anchor stands at a place.
func (a *anchor) around(window []byte, at int, spans []span) []span {
	for _, f := range a.forms {
		if from := at - f.at; from >= 0 && bytes.HasPrefix(window[from:], f.form) {
			spans = append(spans, span{from, from + len(f.form)})
		}
	}
	return spans
}

// safe returns how much of the window can go: all before the longest end of it that is a
// beginning of a form.
func (m *mask) safe(window []byte) int {
	cut := len(window)
	for _, form := range m.forms {
		for at := max(0, len(window)-len(form)+1); at < cut; at++ {
			i := bytes.IndexByte(window[at:cut], form[0])
			if i < 0 {
				break
			}
			if at += i; bytes.HasPrefix(form, window[at:]) {
				cut = at
			}
		}
	}
	return cut
}
