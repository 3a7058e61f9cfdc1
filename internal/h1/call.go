// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// call is one request and its answer, of which it is the body. For one goroutine. Once it
// is over it lets go of the connection, so that nothing read from it late can be
// another's.
type call struct {
	resp   http.Response
	c      *Conn
	s      *scratch
	req    *http.Request
	hints  Hints
	up     *upload // nil without a body
	stop   func() bool
	in     reader
	frame  framing
	left   int64 // of a body with a length
	chunks chunked
	err    error // of the body, for good
}

// send writes the header, and sees to it that the body follows.
func (x *call) send() error {
	until := x.c.headerDeadline()
	if !until.IsZero() {
		x.c.deadline(net.Conn.SetDeadline, until)
	}
	if _, err := x.c.nc.Write(x.s.head); err != nil {
		closeBody(x.req)
		return &unanswered{err}
	}
	if !hasBody(x.req) {
		return nil
	}
	if !until.IsZero() { // it counts from the body's end
		x.c.deadline(net.Conn.SetDeadline, time.Time{})
	}
	x.up = newUpload(x.c, x.req)
	go x.up.run()
	return nil
}

// receive reads up to the final answer's header.
func (x *call) receive() error {
	if err := x.final(); err != nil {
		return err
	}
	x.answered()
	x.resp.Request = x.req
	x.resp.Body = x
	switch {
	case x.resp.StatusCode == http.StatusSwitchingProtocols:
		x.err = io.EOF
		x.finish(false)
	case x.frame == none:
		x.err = io.EOF
		x.finish(!x.resp.Close)
	}
	if x.err != nil {
		x.resp.Body = http.NoBody
	}
	return nil
}

// final reads informational answers and the head of the final one.
func (x *call) final() error {
	for n := 0; ; n++ {
		head, err := x.in.block(x.c.client.opt.HeaderBytes)
		switch {
		case err == nil:
		case n == 0 && x.in.buffered() == 0 && !errors.Is(err, os.ErrDeadlineExceeded):
			return &unanswered{err}
		default:
			return unexpected(err)
		}
		if err := parseHead(head, &x.resp); err != nil {
			return err
		}
		if x.frame, err = frame(&x.resp, x.req.Method); err != nil {
			return err
		}
		x.left = x.resp.ContentLength
		if x.resp.StatusCode >= 200 || x.resp.StatusCode == http.StatusSwitchingProtocols {
			return nil
		}
		if n == x.c.client.opt.Informational {
			return ErrTooMany
		}
		if err := x.informational(); err != nil {
			return err
		}
	}
}

// informational passes an answer on that is not the last. A body that it asks for is read
// after that: a server that reads a body asks for it by itself where nobody has yet.
func (x *call) informational() error {
	code, header := x.resp.StatusCode, x.resp.Header
	x.resp = http.Response{}
	if x.hints != nil {
		if err := x.hints.Early(code, header); err != nil {
			return err
		}
	}
	if x.up != nil && code == http.StatusContinue {
		x.up.decide(true)
	}
	return nil
}

// answered ends the wait for the header. A body that was not asked for is sent all the
// same where the connection goes on.
func (x *call) answered() {
	if x.up != nil {
		x.up.answer()
		x.up.decide(!x.resp.Close)
	} else if x.c.client.opt.HeaderTimeout > 0 {
		x.c.deadline(net.Conn.SetDeadline, time.Time{})
	}
}

// Read implements io.Reader.
func (x *call) Read(p []byte) (int, error) {
	if x.err != nil || len(p) == 0 {
		return 0, x.err
	}
	n, err := x.read(p)
	if err == nil {
		return n, nil
	}
	x.err = io.EOF
	if err == io.EOF { //nolint:errorlint // a wrapped one is not the end
		x.finish(!x.resp.Close)
	} else {
		x.err = x.fail(err)
	}
	return n, x.err
}

// read reads from the body as it is framed. Its end is io.EOF.
func (x *call) read(p []byte) (int, error) {
	switch x.frame {
	case chunks:
		return x.readChunks(p)
	case untilClose:
		return x.in.Read(p)
	}
	n, err := x.in.Read(p[:min(int64(len(p)), x.left)])
	x.left -= int64(n)
	if x.left == 0 {
		return n, io.EOF
	}
	return n, unexpected(err)
}

// Close implements io.Closer. A body that was not read to its end costs the connection.
func (x *call) Close() error {
	if x.err == nil {
		x.err = ErrClosed
		x.finish(false)
	}
	return nil
}

// finish lets go of the connection, which goes on where everything was in order: the
// request is sent, nobody has cut it, and nothing came behind the answer.
func (x *call) finish(good bool) {
	sent := x.up == nil || x.up.sent(good)
	good = x.stop() && good && sent && x.in.buffered() == 0
	c := x.letGo()
	if good && c.state.CompareAndSwap(stateBusy, stateIdle) {
		c.idle()
		return
	}
	_ = c.Close()
}

// letGo gives back what the call has held.
func (x *call) letGo() *Conn {
	c := x.c
	c.client.putScratch(x.s)
	x.c, x.s, x.in, x.hints, x.up = nil, nil, reader{}, nil, nil
	return c
}

// fail ends a call that went wrong and says why: because it was cut, because of its own
// body, or as the connection has it.
func (x *call) fail(err error) error {
	x.stop()
	up := x.up
	c := x.letGo()
	_ = c.Close()
	switch {
	case c.cut.Load():
		return context.Cause(x.req.Context())
	case x.resp.Body == nil && errors.Is(err, os.ErrDeadlineExceeded):
		err = slow{}
	}
	if up != nil {
		err = up.blame(err)
	}
	return err
}
