// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"
)

// opened is how a captured client began.
type opened string

// They are label values of egret_captured_total.
const (
	openedTLS    opened = "tls"
	openedHTTP   opened = "http"
	openedOther  opened = "other"  // bytes that are neither
	openedSilent opened = "silent" // nothing: it waits for the server to speak first
	openedGone   opened = "gone"   // closed without a word
)

// opening is what a captured client has said, and the bytes, which are replayed.
type opening struct {
	kind  opened
	head  []byte
	hello hello // of openedTLS
	err   error // openedTLS: why there is no hello; openedGone: how it ended
}

// silence is how long a client may say nothing, or break off within its first word,
// before it is taken for one that waits for the server.
const silence = 300 * time.Millisecond

// peekStep is how much is read at once: an honest hello fits.
const peekStep = 4 << 10

// peeker reads what a captured client says first, and no more than tells what it is.
type peeker struct {
	conn  net.Conn
	head  []byte
	hello helloReader
}

// open reads until it is known how the client begins: for as long as quiet where it does
// not begin to speak TLS or HTTP, until the deadline where it does. The connection's read
// deadline is left cleared.
func (p *peeker) open(quiet, deadline time.Time) opening {
	defer func() { _ = p.conn.SetReadDeadline(time.Time{}) }()
	for {
		kind, known := classifyOpening(p.head)
		if known {
			return opening{kind: kind, head: p.head}
		}
		limit := quiet
		if kind == openedTLS {
			limit = deadline
			h, err := p.hello.read(p.head)
			if !errors.Is(err, errMore) {
				return opening{kind: kind, head: p.head, hello: h, err: err}
			}
			if len(p.head) >= maxHelloWire {
				return opening{kind: kind, head: p.head, err: fmt.Errorf("%w: more than %d bytes on the wire", errHello, maxHelloWire)}
			}
		}
		if err := p.more(limit); err != nil {
			return p.ended(kind, err)
		}
	}
}

// ended says what a client that sends no more has begun.
func (p *peeker) ended(kind opened, err error) opening {
	o := opening{kind: kind, head: p.head, err: err}
	switch late := errors.Is(err, os.ErrDeadlineExceeded); {
	case kind == openedTLS:
	case len(p.head) > 0:
		o.kind, o.err = openedOther, nil
	case late:
		o.kind, o.err = openedSilent, nil
	default:
		o.kind = openedGone
	}
	return o
}

func (p *peeker) more(limit time.Time) error {
	if err := p.conn.SetReadDeadline(limit); err != nil {
		return err
	}
	p.head = slices.Grow(p.head, peekStep)
	n, err := p.conn.Read(p.head[len(p.head):cap(p.head)])
	p.head = p.head[:len(p.head)+n]
	if n > 0 {
		return nil
	}
	return err
}

// classifyOpening says what the bytes begin. known: more bytes would not change it.
// openedTLS is never known: its hello tells when it is complete. openedSilent: too little
// has come.
func classifyOpening(head []byte) (kind opened, known bool) {
	switch {
	case len(head) == 0:
		return openedSilent, false
	case head[0] == typeHandshake && (len(head) == 1 || head[1] == 3):
		return openedTLS, false
	}
	for _, m := range strings.Fields("GET HEAD POST PUT DELETE OPTIONS PATCH CONNECT TRACE PRI PROPFIND") {
		word := []byte(m + " ")
		switch {
		case bytes.HasPrefix(head, word):
			return openedHTTP, true
		case bytes.HasPrefix(word, head):
			return openedSilent, false
		}
	}
	return openedOther, true
}

// replay is a connection whose first bytes have been read already.
type replay struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (r *replay) Read(p []byte) (int, error) {
	if len(r.head) > 0 {
		n := copy(p, r.head)
		if r.head = r.head[n:]; len(r.head) == 0 {
			r.head = nil // not kept for the connection's life
		}
		return n, nil
	}
	return r.Conn.Read(p)
}

// CloseWrite half-closes, where the connection under it can.
func (r *replay) CloseWrite() error {
	if cw, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}
