// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"

	"github.com/egret-proxy/egret/internal/h1"
	"github.com/egret-proxy/egret/internal/wireerr"
)

// carrier carries requests over one verified connection. Our own client does it for
// HTTP/1.1 (*h1.Conn); net/http's (*http.ClientConn) for HTTP/2, for requests to switch
// protocols, and over what is no socket of ours, the inside of another TLS connection.
type carrier interface {
	Reserve() error
	Release()
	Available() int
	InFlight() int
	Err() error
	Close() error
}

// maxResponseHeader bounds the header of an answer in bytes.
const maxResponseHeader = 256 << 10

// maxInformational bounds the answers ahead of the final one.
const maxInformational = 100

func newH1Client(responseHeader time.Duration) *h1.Client {
	return h1.NewClient(h1.Options{
		HeaderBytes: maxResponseHeader, HeaderTimeout: responseHeader, Informational: maxInformational, Continue: expectTimeout,
	})
}

// carry makes the carrier of a connection; idle is called when it becomes free.
func (p *Pool) carry(ctx context.Context, k poolKey, tc *tls.Conn, idle func()) (carrier, error) {
	if s, ok := tc.NetConn().(*h1.Socket); ok && k.proto == protoH1 && !k.standard {
		return p.own.New(tc, s, idle), nil
	}
	cc, err := p.transport.NewClientConn(context.WithValue(ctx, dialedKey{}, tc), "https", "upstream.invalid:443")
	if err != nil {
		return nil, err
	}
	cc.SetStateHook(func(cc *http.ClientConn) {
		if cc.InFlight() == 0 {
			idle()
		}
	})
	return cc, nil
}

// sound reports whether a kept connection, on which a place has been taken, is as it was
// left. net/http finds out by itself.
func (u *upstreamConn) sound() bool {
	own, ok := u.cc.(*h1.Conn)
	return !ok || own.Sound()
}

// roundTrip sends a request over the place that has been taken. x may be nil.
func (u *upstreamConn) roundTrip(req *http.Request, x *exchange) (*http.Response, error) {
	var hints h1.Hints
	if x != nil {
		hints = x
	}
	if own, ok := u.cc.(*h1.Conn); ok {
		return own.RoundTrip(req, hints)
	}
	if x != nil && x.own.hints.wanted {
		req = req.WithContext(x.traced(req.Context()))
	}
	return u.cc.(*http.ClientConn).RoundTrip(req) //nolint:forcetypeassert // there are two
}

// untouched reports that a kept connection was closed before anything of an answer came,
// so that a request may be repeated that does no harm twice.
func (u *upstreamConn) untouched(err error) bool {
	if _, own := u.cc.(*h1.Conn); own {
		return errors.Is(err, h1.ErrUnanswered)
	}
	return classifyUpstream(wireerr.Wrap(err)).reason == reasonReset
}

// traced is a context by which net/http tells of informational answers.
func (x *exchange) traced(ctx context.Context) context.Context {
	x.own.hints.trace.Got1xxResponse = func(code int, h textproto.MIMEHeader) error { return x.Early(code, http.Header(h)) }
	return httptrace.WithClientTrace(ctx, &x.own.hints.trace)
}
