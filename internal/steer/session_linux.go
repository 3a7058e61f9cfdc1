// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// session is one Receiver's connection. Its members but wire are guarded by Steersman.mu.
type session struct {
	m    *Steersman
	wire *wire
	said bool // what it has
	told bool // what there is; from then on it hears of every change
	once sync.Once

	queue chan outgoing
}

// outgoing is a message with descriptors of its own.
type outgoing struct {
	m     message
	files []*os.File
}

// queueLen is more than all namespaces twice over; a Receiver that does not read so many
// is given up.
const queueLen = 4096

// Serve accepts Receivers on a SEQPACKET listener until ctx ends or the listener fails.
func (m *Steersman) Serve(ctx context.Context, l *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil // asked to end
		}
		if err != nil {
			return fmt.Errorf("accept a receiver: %w", err)
		}
		if uid, err := peerUID(c); err != nil || uid != 0 && uid != m.o.UID {
			m.log.Error("a process of another user was refused", "uid", uid, "want", m.o.UID, "error", err)
			_ = c.Close()
			continue
		}
		t := &session{m: m, wire: &wire{conn: c}, queue: make(chan outgoing, queueLen)}
		m.mu.Lock()
		m.sessions[t] = true
		m.mu.Unlock()
		m.work.Go(t.write)
		m.work.Go(t.read)
	}
}

// end breaks the connection; both goroutines then end.
func (t *session) end() { t.once.Do(func() { _ = t.wire.conn.Close() }) }

// post queues a message. The caller holds Steersman.mu.
func (t *session) post(m message, files ...*os.File) {
	select {
	case t.queue <- outgoing{m, files}:
	default:
		closeAll(files)
		t.m.log.Error("a receiver does not read, and is given up")
		t.end()
	}
}

// add queues the sockets of a namespace, as descriptors of their own: the namespace may be
// left before they are sent. The caller holds Steersman.mu.
func (t *session) add(x *steered) {
	var files []*os.File
	for _, f := range x.s.all() {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			closeAll(files)
			t.m.log.Error("sockets cannot be passed", "pod", x.pod.String(), "error", err)
			t.end()
			return
		}
		files = append(files, os.NewFile(uintptr(fd), "steered"))
	}
	t.post(message{Type: typeAdd, Pod: &x.pod, Listeners: len(files) - 1}, files...)
}

func (t *session) write() {
	for o := range t.queue {
		err := t.wire.send(o.m, o.files...)
		closeAll(o.files)
		if err != nil {
			t.end()
		}
	}
}

// read takes what the Receiver says until it leaves.
func (t *session) read() {
	err := t.greet()
	for err == nil {
		var m message
		var files []*os.File
		if m, files, err = t.wire.receive(); err == nil {
			err = t.take(m, files)
		}
	}
	t.m.log.Info("a receiver has left", "why", err)
	t.end()
	t.m.mu.Lock()
	delete(t.m.sessions, t)
	close(t.queue)
	t.m.mu.Unlock()
}

func (t *session) greet() error {
	m, files, err := t.wire.receive()
	closeAll(files)
	if err == nil && (m.Type != typeHello || m.Version != version) {
		err = fmt.Errorf("%w: the receiver is of another version (%d, this is %d): restart both", errProtocol, m.Version, version)
		_ = t.wire.send(message{Type: typeBye, Error: err.Error()})
	}
	return err
}

func (t *session) take(m message, files []*os.File) error {
	switch m.Type {
	case typeHave:
		return t.has(m, files)
	case typeReady:
		closeAll(files)
		t.ready()
		return nil
	case typeAck:
		closeAll(files)
		t.answered(m)
		return nil
	}
	closeAll(files)
	return fmt.Errorf("%w: a receiver does not send %q", errProtocol, m.Type)
}

// has takes back the sockets of a namespace that a Steersman before this one has made.
// What is not steered any more the Receiver closes when it has been told everything.
func (t *session) has(m message, files []*os.File) error {
	s, err := socketsOf(m, files)
	if err != nil {
		return err
	}
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	x := t.m.pods[m.Pod.Key]
	switch {
	case x != nil && x.pod.same(*m.Pod) && x.pending:
		x.s, x.pending = s, false
		t.m.passLocked(x)
	case t.m.mayComeLocked(*m.Pod):
		t.m.dropOrphanLocked(m.Pod.Key)
		t.m.orphans[m.Pod.Key] = orphan{*m.Pod, s}
	default:
		s.close()
	}
	return nil
}

// ready notes that the Receiver has said what it has.
func (t *session) ready() {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	t.said = true
	t.tell()
}

// tell tells a Receiver of all that there is, once both sides know what they have. The
// caller holds Steersman.mu.
func (t *session) tell() {
	m := t.m
	if !t.said || t.told || !m.settled {
		return
	}
	t.told = true
	for _, x := range m.pods {
		switch {
		case x.s.diag != nil:
			t.add(x)
		case x.pending:
			x.err = ErrPortTaken
			x.settle()
			m.log.Error("not steered", "pod", x.pod.String(), "key", x.pod.Key, "error", x.err)
		}
	}
	t.post(message{Type: typeSynced})
}

func (t *session) answered(a message) {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	x := t.m.pods[a.Pod.Key]
	if x == nil || !x.pod.same(*a.Pod) {
		return
	}
	x.err = nil
	if a.Error != "" {
		x.err = errors.New(a.Error)
	}
	x.settle()
}
