// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options are limits of all connections of a Client.
type Options struct {
	HeaderBytes   int           // of one header of an answer; required
	HeaderTimeout time.Duration // from the request's last byte to the answer's header; 0: none
	Informational int           // answers ahead of the final one; required
	Continue      time.Duration // wait for 100 Continue before the body goes all the same; required
}

// Client holds what connections share: limits, and buffers that none keeps while it is
// idle. Nothing is read from a buffer but what was put into it for the same request, and
// what held a header is cleared before anybody else gets it. Safe for concurrent use.
type Client struct {
	opt     Options
	scratch sync.Pool // *scratch
	bodies  sync.Pool // *[bodyBuffer]byte
}

// NewClient makes a Client.
func NewClient(o Options) *Client { return &Client{opt: o} }

// Hints is told of informational answers. An error ends the request.
type Hints interface {
	Early(code int, header http.Header) error
}

// Conn is a connection, for one request at a time. Reserve, Release, RoundTrip and the
// answer's body belong to one goroutine at a time; the rest is safe for concurrent use.
type Conn struct {
	client *Client
	nc     net.Conn
	sock   *Socket // below nc
	idle   func()
	state  atomic.Int32
	cut    atomic.Bool // the context of a request has ended
	cutter func()      // made once
	one    [1]byte
}

const (
	stateIdle int32 = iota
	stateBusy
	stateClosed
)

// New makes a Conn of a connection over the socket, on which nothing has been said yet.
// idle is called each time that it is free again.
func (cl *Client) New(nc net.Conn, s *Socket, idle func()) *Conn {
	c := &Conn{client: cl, nc: nc, sock: s, idle: idle}
	c.cutter = func() {
		c.cut.Store(true)
		_ = c.nc.SetDeadline(time.Unix(1, 0))
	}
	return c
}

// Reserve takes the connection's only place. RoundTrip or Release must follow.
func (c *Conn) Reserve() error {
	switch {
	case c.state.CompareAndSwap(stateIdle, stateBusy):
		return nil
	case c.state.Load() == stateClosed:
		return ErrClosed
	}
	return ErrBusy
}

// Release gives the place back.
func (c *Conn) Release() { c.state.CompareAndSwap(stateBusy, stateIdle) }

// Available returns 1 where the place is free.
func (c *Conn) Available() int { return c.is(stateIdle) }

// InFlight returns 1 where the place is taken.
func (c *Conn) InFlight() int { return c.is(stateBusy) }

func (c *Conn) is(state int32) int {
	if c.state.Load() == state {
		return 1
	}
	return 0
}

// Err returns ErrClosed where the connection is of no use any more.
func (c *Conn) Err() error {
	if c.state.Load() == stateClosed {
		return ErrClosed
	}
	return nil
}

// Close closes the connection and breaks off what is going on. TLS may wait for its last
// words to be taken, and so a connection in use is closed below it.
func (c *Conn) Close() error {
	switch was := c.state.Swap(stateClosed); {
	case was == stateClosed:
	case c.sock == nil, was == stateIdle:
		_ = c.nc.Close()
	default:
		_ = c.sock.Close()
	}
	return nil
}

// Sound reports whether a kept connection, whose place is taken, can be used once more:
// the peer has neither closed it nor said anything unasked (RFC 9112, 9.2). It does
// not wait.
func (c *Conn) Sound() bool {
	if c.sock == nil || c.Err() != nil {
		return false
	}
	c.sock.now = true
	n, err := c.nc.Read(c.one[:])
	c.sock.now = false
	return n == 0 && err == nothing{} //nolint:errorlint // it comes as it is, or something is wrong
}

// deadline sets a deadline, unless the request has been cut: then it stays in the past.
func (c *Conn) deadline(set func(net.Conn, time.Time) error, t time.Time) {
	_ = set(c.nc, t)
	if c.cut.Load() {
		_ = c.nc.SetDeadline(time.Unix(1, 0))
	}
}

// headerDeadline is until when an answer's header has to come to a request sent now.
func (c *Conn) headerDeadline() time.Time {
	if c.client.opt.HeaderTimeout == 0 {
		return time.Time{}
	}
	return time.Now().Add(c.client.opt.HeaderTimeout)
}

// RoundTrip sends a request over the connection, whose place is taken, and returns the
// final answer. The place is free, or the connection closed, when the answer's body has
// been read to its end or closed, or an error is returned. Cancelling the request's
// context cuts both, with its cause. The request's body is closed, maybe later; it may be read
// and written while the answer is read. Unlike net/http's, the answer has neither
// TransferEncoding nor TLS. hints may be nil.
func (c *Conn) RoundTrip(req *http.Request, hints Hints) (*http.Response, error) {
	s := c.client.getScratch()
	err := s.writeHead(req)
	if err == nil && req.Context().Err() != nil {
		err = context.Cause(req.Context())
	}
	if err != nil { // nothing has been sent
		c.client.putScratch(s)
		c.Release()
		closeBody(req)
		return nil, err
	}
	x := &call{c: c, s: s, req: req, hints: hints}
	x.in = reader{src: c.nc, buf: s.in[:]}
	x.stop = context.AfterFunc(req.Context(), c.cutter)
	if err := x.send(); err != nil {
		return nil, x.fail(err)
	}
	if err := x.receive(); err != nil {
		return nil, x.fail(err)
	}
	return &x.resp, nil
}
