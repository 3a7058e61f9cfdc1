// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// upload writes the body of a request, in a goroutine of its own.
type upload struct {
	c    *Conn
	req  *http.Request
	may  chan bool // whether the body may go, where it waits to be asked for; else nil
	over chan struct{}

	mu       sync.Mutex
	answered bool  // the final answer's header is here
	err      error // what went wrong
	own      bool  // with the body, not with the connection
}

var errUnasked = errors.New("h1: the body was not asked for")

func newUpload(c *Conn, req *http.Request) *upload {
	u := &upload{c: c, req: req, over: make(chan struct{})}
	if req.ProtoAtLeast(1, 1) && httpguts.HeaderValuesContainsToken(req.Header["Expect"], "100-continue") {
		u.may = make(chan bool, 1)
	}
	return u
}

// decide says whether a body that waits may go. Only the first word counts.
func (u *upload) decide(may bool) {
	if u.may == nil {
		return
	}
	select {
	case u.may <- may:
	default:
	}
}

// run sends the body and then starts the clock for the answer.
func (u *upload) run() {
	defer close(u.over)
	defer closeBody(u.req)
	if !u.asked() {
		u.failed(errUnasked, false)
		return
	}
	if err := u.send(); err != nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if until := u.c.headerDeadline(); !u.answered && !until.IsZero() {
		u.c.deadline(net.Conn.SetReadDeadline, until)
	}
}

// asked waits for 100 Continue, or long enough.
func (u *upload) asked() bool {
	if u.may == nil {
		return true
	}
	t := time.NewTimer(u.c.client.opt.Continue)
	defer t.Stop()
	select {
	case may := <-u.may:
		return may
	case <-t.C:
		return true
	}
}

// answer notes that the final answer is here. The header's deadline is over.
func (u *upload) answer() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.answered = true
	u.c.deadline(net.Conn.SetReadDeadline, time.Time{})
}

// afterBreak is how long an answer may take whose request could not be sent to its end: a
// server that refuses a body answers and closes.
const afterBreak = time.Second

// failed notes why the body was not sent. A fault of the body ends the call; one of the
// connection leaves it to the answer, which may be here already.
func (u *upload) failed(err error, own bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err, u.own = err, own
	switch {
	case own:
		_ = u.c.Close()
	case !u.answered && !errors.Is(err, errUnasked):
		u.c.deadline(net.Conn.SetReadDeadline, time.Now().Add(afterBreak))
	}
}

// blame returns what ended the call where it was the upload, else err.
func (u *upload) blame(err error) error {
	if f := u.failure(); f != nil && !errors.Is(f, errUnasked) {
		return f
	}
	return err
}

// failure returns what went wrong with the upload, if anything.
func (u *upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// sentWithin is how long an answer's end waits for the request's (as net/http has it).
const sentWithin = 50 * time.Millisecond

// sent reports whether all of the body has been sent. patient waits for it a little.
func (u *upload) sent(patient bool) bool {
	select {
	case <-u.over:
		return u.failure() == nil
	default:
	}
	if !patient {
		return false
	}
	t := time.NewTimer(sentWithin)
	defer t.Stop()
	select {
	case <-u.over:
		return u.failure() == nil
	case <-t.C:
		return false
	}
}

// sizeRoom is for the size of a chunk and its CRLF, ahead of the data.
const sizeRoom = 8

// send copies the body, each piece as it comes.
func (u *upload) send() error {
	buf, ok := u.c.client.bodies.Get().(*[bodyBuffer]byte)
	if !ok {
		buf = new([bodyBuffer]byte)
	}
	defer u.c.client.bodies.Put(buf)
	left := outgoing(u.req)
	if left >= 0 {
		return u.plain(buf[:], left)
	}
	for {
		n, err := u.req.Body.Read(buf[sizeRoom : bodyBuffer-2])
		if n > 0 && !u.write(chunk(buf[:], n)) {
			return u.failure()
		}
		switch {
		case err == io.EOF:
			return u.trailer(buf[:0])
		case err != nil:
			u.failed(err, true)
			return err
		}
	}
}

// chunk frames n bytes that stand behind sizeRoom.
func chunk(buf []byte, n int) []byte {
	var size [sizeRoom]byte
	line := append(strconv.AppendUint(size[:0], uint64(n), 16), '\r', '\n')
	from := sizeRoom - len(line)
	copy(buf[from:], line)
	return append(buf[from:sizeRoom+n], '\r', '\n')
}

// trailer ends a chunked body.
func (u *upload) trailer(b []byte) error {
	b = append(b, "0\r\n"...)
	names := make([]string, 0, len(u.req.Trailer))
	for name := range u.req.Trailer {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, v := range u.req.Trailer[name] {
			if barred(http.CanonicalHeaderKey(name)) || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(v) {
				err := fmt.Errorf("%w: trailer %q", ErrRequest, name)
				u.failed(err, true)
				return err
			}
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	u.write(append(b, "\r\n"...))
	return u.failure()
}

// plain copies a body of the declared length, and reads on to its end: only there does a
// body know whether it is whole.
func (u *upload) plain(buf []byte, left int64) error {
	for {
		n, err := u.req.Body.Read(buf)
		if left -= int64(n); left < 0 {
			err = ErrBody
		} else if n > 0 && !u.write(buf[:n]) {
			return u.failure()
		}
		switch {
		case err == io.EOF && left == 0:
			return nil
		case err == io.EOF:
			err = ErrBody
		}
		if err != nil {
			u.failed(err, true)
			return err
		}
	}
}

// write reports whether a piece went out.
func (u *upload) write(p []byte) bool {
	if _, err := u.c.nc.Write(p); err != nil {
		u.failed(err, false)
		return false
	}
	return true
}
