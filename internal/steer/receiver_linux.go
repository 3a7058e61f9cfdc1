// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Handler serves namespaces. Its methods are called one at a time.
type Handler interface {
	// Serve takes connections of a pod from listeners until Stop. The descriptors are its
	// own; an error closes nothing, and has the Steersman say why the pod is not served.
	Serve(p Pod, listeners []net.Listener, diag *os.File) error
	// Stop ends what Serve has begun: the listeners are closed, connections that are open may
	// go on.
	Stop(p Pod)
}

// ReceiverOptions are what a Receiver is made of. Socket and Handler are required.
type ReceiverOptions struct {
	Socket  string
	Handler Handler
	Log     *slog.Logger
}

// Receiver keeps a connection to the Steersman and hands what comes to its Handler. While
// there is no Steersman it goes on with what it has.
type Receiver struct {
	o    ReceiverOptions
	log  *slog.Logger
	held map[string]*heldPod

	serving        atomic.Int64
	refused, loops atomic.Uint64

	mu    sync.Mutex
	state error // nil: synced with the Steersman
}

// heldPod is a namespace that is served, with descriptors that a later Steersman is given.
type heldPod struct {
	pod   Pod
	s     sockets
	named bool   // by the Steersman of now
	loop  *guard // it is not served: it is this process' own
}

// Counts are what a Receiver has done and does.
type Counts struct {
	Serving int    // namespaces
	Refused uint64 // namespaces
	Loops   uint64 // connections of this process' own namespace that were brought back to it
}

// Counts is safe for concurrent use.
func (r *Receiver) Counts() Counts {
	return Counts{Serving: int(r.serving.Load()), Refused: r.refused.Load(), Loops: r.loops.Load()}
}

// NewReceiver makes one. Run it.
func NewReceiver(o ReceiverOptions) *Receiver {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Receiver{o: o, log: o.Log, held: map[string]*heldPod{}, state: errors.New("egret steer has not been reached yet")}
}

// How often a Steersman is looked for.
const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 500 * time.Millisecond
)

// Health says why pods that come now would not be served; nil: they are.
func (r *Receiver) Health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

func (r *Receiver) setState(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state = err
}

// Run serves until ctx ends, and then stops serving everything.
func (r *Receiver) Run(ctx context.Context) {
	defer func() {
		for _, h := range r.held {
			r.drop(h)
		}
	}()
	said := ""
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		begun := time.Now()
		err := r.connect(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > lastRetry {
			retry, said = firstRetry, ""
		}
		r.setState(fmt.Errorf("egret steer is not there, pods that are served go on: %w", err))
		if why := err.Error(); why != said { // not each time that it is still not there
			r.log.Warn("no egret steer: pods that are served go on, new ones are not", "socket", r.o.Socket, "error", err)
			said = why
		}
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return
		}
	}
}

// connect is one connection, from hello to its end.
func (r *Receiver) connect(ctx context.Context) error {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", r.o.Socket)
	if err != nil {
		return err
	}
	conn := c.(*net.UnixConn) //nolint:forcetypeassert // unixpacket
	defer conn.Close()        //nolint:errcheck // nothing is lost
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := ServedByRoot(conn); err != nil { // whoever listens there names the callers
		return err
	}
	w := &wire{conn: conn}
	if err := r.tell(w); err != nil {
		return err
	}
	for {
		m, files, err := w.receive()
		if errors.Is(err, io.EOF) {
			return errors.New("it has ended")
		}
		if err != nil {
			return err
		}
		if err := r.take(w, m, files); err != nil {
			return err
		}
	}
}

// tell says hello and gives back all that is held.
func (r *Receiver) tell(w *wire) error {
	if err := w.send(message{Type: typeHello, Version: version}); err != nil {
		return err
	}
	for _, h := range r.held {
		h.named = false
		if err := w.send(message{Type: typeHave, Pod: &h.pod, Listeners: len(h.s.listeners)}, h.s.all()...); err != nil {
			return err
		}
	}
	return w.send(message{Type: typeReady})
}

func (r *Receiver) take(w *wire, m message, files []*os.File) error {
	switch m.Type {
	case typeAdd:
		err := r.add(m, files)
		ack := message{Type: typeAck, Pod: m.Pod}
		if err != nil {
			r.refused.Add(1)
			r.log.Error("a pod is not served", "pod", m.Pod.String(), "error", err)
			ack.Error = err.Error()
		}
		return w.send(ack)
	case typeRemove:
		closeAll(files)
		if h := r.held[m.Pod.Key]; h != nil && h.pod.same(*m.Pod) {
			r.drop(h)
		}
		return nil
	case typeSynced:
		closeAll(files)
		r.synced()
		return nil
	}
	closeAll(files)
	return fmt.Errorf("%w: egret steer sends %q: %s", errProtocol, m.Type, m.Error)
}

// add serves a namespace, unless it is served already.
func (r *Receiver) add(m message, files []*os.File) error {
	s, err := socketsOf(m, files)
	if err != nil {
		return err
	}
	if h := r.held[m.Pod.Key]; h != nil {
		if h.pod.same(*m.Pod) {
			h.named = true
			s.close()
			return h.fault()
		}
		r.drop(h)
	}
	own, err := cookieHere()
	if err != nil {
		s.close()
		return err
	}
	h := &heldPod{pod: *m.Pod, s: s, named: true}
	if own == m.Pod.NetNS {
		h.loop, err = newGuard(s, &r.loops)
	} else {
		err = r.serve(h.pod, s)
	}
	if err != nil {
		s.close()
		return err
	}
	r.held[h.pod.Key] = h
	return h.fault()
}

// fault says why a namespace that is held is not served.
func (h *heldPod) fault() error {
	if h.loop == nil {
		return nil
	}
	return fmt.Errorf("pod %s %w", h.pod, ErrLoop)
}

func (r *Receiver) serve(p Pod, s sockets) error {
	listeners, err := s.accepting()
	if err != nil {
		return err
	}
	give := func(err error) error {
		closeListeners(listeners)
		return err
	}
	fd, err := unix.FcntlInt(s.diag.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return give(err)
	}
	diag := os.NewFile(uintptr(fd), "sock_diag")
	if err := r.o.Handler.Serve(p, listeners, diag); err != nil {
		return give(errors.Join(err, diag.Close()))
	}
	r.serving.Add(1)
	r.log.Info("serving a pod", "pod", p.String(), "key", p.Key, "netns", p.NetNS)
	return nil
}

func (r *Receiver) drop(h *heldPod) {
	if h.loop != nil {
		h.loop.end()
	} else {
		r.o.Handler.Stop(h.pod)
		r.serving.Add(-1)
	}
	h.s.close()
	delete(r.held, h.pod.Key)
	r.log.Info("not serving a pod any more", "pod", h.pod.String(), "key", h.pod.Key, "netns", h.pod.NetNS)
}

// synced ends what the Steersman of now does not know.
func (r *Receiver) synced() {
	for _, h := range r.held {
		if !h.named {
			r.drop(h)
		}
	}
	var fault error
	for _, h := range r.held {
		fault = errors.Join(fault, h.fault())
	}
	r.setState(fault)
	r.log.Info("in step with egret steer", "pods", len(r.held))
}
