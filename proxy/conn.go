// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/policy"
)

// clientConn is one admitted connection: who it is from, where it goes, and what runs
// on it. It is the net.Conn under the client's TLS, so that every later stage finds it
// from the TLS connection and nothing is looked up twice.
type clientConn struct {
	net.Conn
	id       string // of the CONNECT; records of handshakes carry it
	entrance *Entrance
	caller   identity.Caller
	workload identity.Workload // as admitted; requests ask the caller again
	target   policy.Target
	dest     *policy.Destination // nil for a tunnel to an unlisted host
	admitted time.Time
	verdict  policy.Verdict // of the admission
	set      string         // digest of the policy set that decided about it
	workInfo *policy.Workload
	revoked  *policy.Rule   // the grant of a tunnel that is revoked; nil where none is, or none was
	took     time.Duration  // to resolve the identity; the first request's record carries it
	original netip.AddrPort // where a captured client wanted to go; not valid for a CONNECT
	speaks   opened         // how a captured client began
	blind    bool           // captured, and not TLS: only its address is known
	ech      bool           // its ClientHello carries encrypted_client_hello
	mismatch atomic.Bool    // the original address has been counted as not ours
	dialErr  error          // what finding out the upstream's protocol said; the first request answers it

	in, out  atomic.Int64 // raw bytes
	hijacked bool         // the connection has been taken from the outer server
	ready    time.Time    // when the handshake was done
	shook    [2]int64     // raw bytes in and out when the handshake was done
	proto    string       // what the handshake agreed on, as ALPN names it
	shaking  *lastBytes   // of what the client sends while it shakes hands; nil before and after
	requests atomic.Int64
	over     atomic.Bool // a body was left unread: nothing behind it can be told apart from it

	mu      sync.Mutex
	live    []running
	closeFn func() // gives back the connection's places, once
	cause   error  // why egret ended it, nil if it did not
}

// Read counts what the client sends.
func (c *clientConn) Read(p []byte) (int, error) {
	if c.over.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(p)
	c.in.Add(int64(n))
	if c.shaking != nil {
		c.shaking.keep(p[:n])
	}
	return n, err
}

// Write counts what the client gets.
func (c *clientConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out.Add(int64(n))
	return n, err
}

// CloseWrite half-closes, where the connection under it can.
func (c *clientConn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close closes the connection and gives back its places; calling it again is harmless.
func (c *clientConn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	fn := c.closeFn
	c.closeFn = nil
	c.mu.Unlock()
	if fn != nil {
		fn()
	}
	return err
}

// connect asks policy whether the connection may come in, and stay where it is a tunnel.
func (c *clientConn) connect(p *policy.Policy, at time.Time) policy.Admission {
	if c.blind {
		return p.ConnectAddress(c.workload.ID, c.workload.Evidence, c.target, at)
	}
	return p.Connect(c.workload.ID, c.workload.Evidence, c.target, at)
}

// running is something that goes on over a connection: a request, a stream, a tunnel.
type running interface {
	cancel(cause error)                                      // end it now, with the reason that its record gives
	recheck(p *policy.Policy, l Limits, now time.Time) error // why it must end, or nil
	long() bool                                              // it is a tunnel or an upgraded connection
}

// add and remove keep the set of what is running, for revocation and drain.
func (c *clientConn) add(x running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.live = append(c.live, x)
}

func (c *clientConn) remove(x running) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.live, x); i >= 0 { // HTTP/2 has a hundred at most
		last := len(c.live) - 1
		c.live[i], c.live[last] = c.live[last], nil
		c.live = c.live[:last]
	}
}

// running returns what goes on.
func (c *clientConn) running() []running {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.live)
}

// cut ends the connection and everything on it, with the reason that records give.
func (c *clientConn) cut(cause error) {
	c.mu.Lock()
	if c.cause == nil {
		c.cause = cause
	}
	c.mu.Unlock()
	for _, x := range c.running() {
		x.cancel(cause)
	}
	_ = c.Close()
}

func (c *clientConn) cutCause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// connTable knows every admitted connection and enforces the limits on them.
type connTable struct {
	limits Limits
	count  atomic.Int64

	mu       sync.Mutex
	conns    map[*clientConn]struct{}
	byID     map[spiffeid.ID]int
	draining bool
}

func newConnTable(l Limits) *connTable {
	return &connTable{limits: l, conns: map[*clientConn]struct{}{}, byID: map[spiffeid.ID]int{}}
}

var (
	errTooMany  = errors.New("limits.connectionsPerWorkload reached")
	errDraining = errors.New("draining")
)

// admit takes a place for the connection; its Close gives it back.
func (t *connTable) admit(c *clientConn) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.draining:
		return errDraining
	case t.byID[c.workload.ID] >= t.limits.ConnectionsPerWorkload:
		return errTooMany
	}
	t.byID[c.workload.ID]++
	t.conns[c] = struct{}{}
	c.closeFn = func() { t.count.Add(-1); t.release(c) } // in this order: a drain waits for the table
	return nil
}

func (t *connTable) release(c *clientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.conns, c)
	if t.byID[c.workload.ID]--; t.byID[c.workload.ID] <= 0 {
		delete(t.byID, c.workload.ID)
	}
}

// all returns the admitted connections.
func (t *connTable) all() []*clientConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*clientConn, 0, len(t.conns))
	for c := range t.conns {
		out = append(out, c)
	}
	return out
}

func (t *connTable) drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
}

func (t *connTable) isDraining() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.draining
}

// streams counts the upgraded connections and tunnels that are still open.
func (t *connTable) streams() int {
	n := 0
	for _, c := range t.all() {
		for _, x := range c.running() {
			if x.long() {
				n++
			}
		}
	}
	return n
}

// connKey finds the clientConn in the context of a request of the inner server.
type connKey struct{}

func connFrom(ctx context.Context) *clientConn {
	c, _ := ctx.Value(connKey{}).(*clientConn)
	return c
}

// chanListener hands intercepted connections to the inner server.
type chanListener struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newChanListener() *chanListener {
	return &chanListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

// push hands over one connection; it fails once the listener is closed.
func (l *chanListener) push(c net.Conn) error {
	select {
	case l.conns <- c:
		return nil
	case <-l.done:
		return net.ErrClosed
	}
}

// Accept implements net.Listener.
func (l *chanListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *chanListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// Addr implements net.Listener.
func (l *chanListener) Addr() net.Addr { return inner{} }

type inner struct{}

func (inner) Network() string { return "egret" }
func (inner) String() string  { return "intercepted" }
