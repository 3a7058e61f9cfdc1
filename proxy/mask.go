// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net/http"
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
	if m := newMask(x.injected); len(m.values) > 0 && resp.Body != nil {
		resp.Body = &maskedBody{src: resp.Body, mask: m}
	}
	return nil
}

// span is a range of bytes to overwrite.
type span struct{ from, to int }

// maskBuffer is how much is read at once, besides what is held back.
const maskBuffer = 32 << 10

// maskedBody overwrites every byte of every value, however written, with an asterisk, so
// that no length changes. It passes on at once what cannot be the beginning of one, and holds back
// only what can. For one reader.
type maskedBody struct {
	src  io.ReadCloser
	mask *mask
	buf  []byte
	out  []byte // of buf, ready
	held []byte // of buf, behind out: may be the beginning of a value; not yet overwritten
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
	var cut int
	b.hide, cut = b.mask.find(window, err != nil, b.hide)
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
