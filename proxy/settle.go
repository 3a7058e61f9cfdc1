// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"io"
	"net/http"
	"time"
)

// Bounds of what is read of a body that nobody wants. The bytes are those that net/http
// has for answers without full duplex.
const (
	settleBytes = 256 << 10
	settleTime  = 500 * time.Millisecond // behind the answer
	drainTime   = 100 * time.Millisecond // ahead of it
)

// undrained reports a body of HTTP/1.1 of which there is more to come.
func (x *exchange) undrained() bool {
	return x.r.ProtoMajor == 1 && x.r.ContentLength != 0 && !x.bodyDone.Load() && !x.upgraded.Load()
}

// unasked reports a client that waits for 100 Continue before it sends its body. One that
// may have been told to go on counts as one that sends, though not a byte is here yet.
func (x *exchange) unasked() bool { return len(x.r.Header["Expect"]) > 0 && !x.bodyAsked.Load() }

// drainBody reads a small body that is here already, ahead of a refusal, so that the
// connection can be kept. Where there is more the answer does not wait for it and says that
// the connection ends.
func (x *exchange) drainBody() {
	if !x.undrained() {
		return
	}
	if x.r.ContentLength <= settleBytes && !x.unasked() {
		x.discard(drainTime)
	}
	x.closing = x.closing || !x.bodyDone.Load()
}

// settle reads the rest of a small upload that was answered early. Closing on it would
// reset the connection, and the client might never see the answer. With full duplex
// net/http leaves this to the handler. What has not come then is not waited for: the
// connection ends, since the next bytes on it are no request.
func (x *exchange) settle() {
	if !x.undrained() {
		return
	}
	x.w.Flush()
	if !x.unasked() {
		x.discard(settleTime)
	}
	if !x.bodyDone.Load() {
		x.c.over.Store(true)
		_ = http.NewResponseController(x.w.ResponseWriter).SetReadDeadline(time.Unix(1, 0)) // net/http reads on as it closes the body
	}
}

// discard reads the body for some time, to its end at most.
func (x *exchange) discard(patience time.Duration) {
	rc := http.NewResponseController(x.w.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(patience))
	_, _ = io.CopyN(io.Discard, x.r.Body, settleBytes+1)
	_ = rc.SetReadDeadline(time.Time{})
}
