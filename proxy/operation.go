// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/policy/operation"
)

// peekTime is how long a client gets to send what has to be read before the decision.
const peekTime = 10 * time.Second

// bodyPeek is the beginning of a request's body, read once and replayed.
type bodyPeek struct {
	head []byte
	err  error // why head is not the whole body
}

// decideOn asks policy, and where the answer hangs on what the request does, reads that and
// asks again (MUST H15). Nothing else is read of a body before the decision (MUST H9).
func (x *exchange) decideOn(p *policy.Policy) *refusal {
	x.askPolicy(p)
	e := x.decision.Extract
	if e == nil {
		return nil
	}
	ops, err := x.operations(e)
	if gone := x.gone(err); gone != nil {
		return gone
	}
	x.ask.Operations, x.ask.Read, x.unread = ops, true, err
	x.rec.Operation = operationForRecord(ops)
	x.askPolicy(p)
	return nil
}

func (x *exchange) askPolicy(p *policy.Policy) {
	begin := time.Now()
	x.decision = p.Request(x.ask)
	x.rec.TPolicy += time.Since(begin)
}

// operations runs an extractor on the request as it will be sent.
func (x *exchange) operations(e *operation.Extractor) ([]string, error) {
	if err := keptHeaders(x.r.Header); err != nil {
		return nil, err
	}
	r := operation.Request{
		Method: x.r.Method, Host: x.c.target.Host, Path: x.ask.Path, Query: x.r.URL.RawQuery, Header: x.r.Header,
	}
	if e.NeedsBody(&r) {
		body, err := x.peek()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	return e.Extract(&r)
}

// keptHeaders refuses requests whose Connection header names fields: those are removed on
// the way, and the server would read what is left in another way.
func keptHeaders(h http.Header) error {
	for _, v := range h["Connection"] {
		for name := range strings.SplitSeq(v, ",") {
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "", "close", "keep-alive", "upgrade", "te", "http2-settings":
			default:
				return errors.New("the header Connection names other headers")
			}
		}
	}
	return nil
}

// peek returns the whole body if it has at most operation.MaxBody bytes. What it reads is
// replayed. It reads once, whoever asks.
func (x *exchange) peek() ([]byte, error) {
	if x.peeked == nil {
		x.peeked = &bodyPeek{}
		x.peeked.head, x.peeked.err = x.readHead()
	}
	return x.peeked.head, x.peeked.err
}

func (x *exchange) readHead() ([]byte, error) {
	body := x.r.Body
	switch {
	case body == nil || body == http.NoBody:
		return nil, nil
	case x.r.ContentLength > operation.MaxBody: // known without reading
		return nil, operation.ErrTooLong
	}
	rc := http.NewResponseController(x.w.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(peekTime)) // fails only for writers that are not net/http's
	head, err := io.ReadAll(io.LimitReader(body, operation.MaxBody+1))
	_ = rc.SetReadDeadline(time.Time{})
	x.r.Body = &joinedBody{Reader: io.MultiReader(bytes.NewReader(head), body), Closer: body}
	switch {
	case err != nil:
		return nil, &peekError{err}
	case len(head) > operation.MaxBody:
		return nil, operation.ErrTooLong
	}
	return head, nil
}

// peekError is a body that did not come.
type peekError struct{ err error }

func (e *peekError) Error() string { return "the body did not come to its end" }
func (e *peekError) Unwrap() error { return e.err }

// gone tells a client that left from one whose request cannot be understood.
func (x *exchange) gone(err error) *refusal {
	var broken *peekError
	if errors.As(err, &broken) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return refuse(reasonClientGone, context.Cause(x.ctx))
	}
	return nil
}

// untold adds to a denial why nothing was read of what the request does.
func (x *exchange) untold(ref *refusal) *refusal {
	if x.unread != nil {
		words := "what the request does cannot be told: " + x.unread.Error()
		if ref.err != nil {
			words = ref.err.Error() + "; " + words
		}
		ref.err = errors.New(words)
	}
	return ref
}

// mints refuses a call that hands out a secret (MUST H11). The record says under which
// name a policy could grant it.
func (x *exchange) mints(p *policy.Policy) *refusal {
	ref := x.nearest(p, policy.ReasonMintingNotAllowed)
	ref.err = fmt.Errorf("the call hands out a secret: it is %q in the built-in list", x.decision.Minting)
	return x.untold(ref)
}

// maxOperationText bounds what a record says.
const maxOperationText = 512

func operationForRecord(ops []string) string {
	s := strings.Join(ops, ",")
	if len(s) > maxOperationText {
		s = s[:maxOperationText] + "…"
	}
	return s
}
