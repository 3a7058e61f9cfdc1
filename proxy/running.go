// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/policy"
)

// cutGrace is how long a client gets to read a refusal that cuts its request.
const cutGrace = 5 * time.Second

// cancel implements running: it ends the exchange, whichever side it is waiting for. An
// answer that has begun is broken off; before that there is time to say why.
//
// NEVER touch the response writer after the handler has returned: it may be nil (HTTP/2)
// or belong to the connection's next request.
func (x *exchange) cancel(cause error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return
	}
	x.cutting = true
	x.stop(cause)
	if x.upgraded.Load() {
		_ = x.c.Close()
		return
	}
	until := time.Unix(1, 0)
	if !x.answering {
		until = time.Now().Add(cutGrace)
	}
	rc := http.NewResponseController(x.w.ResponseWriter)
	_ = rc.SetWriteDeadline(until)
	if !x.bodyDone.Load() { // the upstream's connection waits for a read of it that is under way
		x.bodyEnd.Store(true)
		_ = rc.SetReadDeadline(time.Unix(1, 0))
	}
}

// stopReading ends a read of the client's body that is under way. An HTTP/2 upstream that
// has answered early waits for that read before its response can end.
func (x *exchange) stopReading() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.done {
		return
	}
	x.bodyEnd.Store(true)
	_ = http.NewResponseController(x.w.ResponseWriter).SetReadDeadline(time.Unix(1, 0))
}

// answer notes that the response header is being sent.
func (x *exchange) answer() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answering = true
	if x.cutting && x.r.ProtoMajor == 1 { // its write deadline stays with the connection
		x.closing = true
	}
}

// long implements running.
func (x *exchange) long() bool { return x.upgraded.Load() }

// longAfter is when an exchange counts as a long stream, whose start is recorded too.
const longAfter = time.Minute

// recheck implements running: what policy no longer allows ends now.
func (x *exchange) recheck(p *policy.Policy, l Limits, now time.Time) error {
	age := now.Sub(x.start)
	if x.isCut() || x.decision.Rule == nil { // told already, or being refused
		return nil
	}
	if x.s.table.isDraining() && x.stalls(now) {
		return refuse(reasonDrain, errors.New("the rest of the body does not come"))
	}
	if age > maxStream(x.decision.Rule, l) {
		return refuse(reasonMaxStream, nil)
	}
	ask := x.ask
	ask.At = now
	if d := p.Request(ask); d.Verdict != policy.Allow && !d.Observed {
		return nowDenied(d.Reason, d.Revoked)
	}
	if age > longAfter {
		x.markStarted(now)
	}
	return nil
}

// stallTime is how long a drain waits for the next bytes of a body.
const stallTime = 3 * time.Second

// stalls reports an exchange without an answer that waits for the client's body.
func (x *exchange) stalls(now time.Time) bool {
	since := x.bodyWait.Load()
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.answering && since != 0 && now.Sub(time.Unix(0, since)) > stallTime
}

func (x *exchange) isCut() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cutting
}

// markStarted writes the start record of a stream, once. Where there is no place for it
// the stream goes on: its own place for the end is held.
func (x *exchange) markStarted(now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.started || x.done {
		return
	}
	slot, err := x.s.deps.Audit.Begin()
	if err != nil {
		return
	}
	x.started = true
	slot.Write(x.startRecord(now))
}

// startRecord holds what was decided; the counts come with the end. It reads only
// members that do not change once the request is forwarded.
func (x *exchange) startRecord(now time.Time) audit.Record {
	rec := x.c.record(audit.KindStreamStart)
	rec.ID, rec.Time, rec.Method = x.rec.ID, x.start, x.ask.Method
	rec.Verdict, rec.PolicySet, rec.Operation = x.decision.Verdict.String(), x.rec.PolicySet, x.rec.Operation
	if r := x.decision.Rule; r != nil {
		rec.Policy, rec.PolicyDigest, rec.Owner = r.Policy, r.Digest, r.Owner
		rec.Environment, rec.PathTemplate = r.Environment, r.PathTemplate
		if r.Credential != nil {
			rec.Credential = r.Credential.Name
		}
	}
	if x.cred != nil {
		rec.Fingerprint = x.cred.Fingerprint()
	}
	rec.TTotal = now.Sub(x.start)
	x.s.original(&rec, x.c)
	return rec
}

// uploadBody is the body as the upstream connection reads it. Closing it ends a read that
// is under way, which neither heldBody nor the library's wrapper does.
type uploadBody struct {
	io.ReadCloser
	x *exchange
}

func (b *uploadBody) Close() error {
	b.x.stopReading()
	return b.ReadCloser.Close()
}

// countingBody counts what the application sends and remembers that it broke off.
type countingBody struct {
	io.ReadCloser
	x *exchange
}

func (b *countingBody) Read(p []byte) (int, error) {
	b.x.bodyAsked.Store(true)
	b.x.bodyWait.Store(time.Now().UnixNano())
	n, err := b.ReadCloser.Read(p)
	b.x.bodyWait.Store(0)
	b.x.bodyIn.Add(int64(n))
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.x.bodyDone.Store(true)
	case !b.x.bodyEnd.Load():
		b.x.bodyErr.Store(true)
	}
	return n, err
}
