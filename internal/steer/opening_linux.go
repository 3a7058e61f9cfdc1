// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// open makes the sockets, then the rules: a connection that is captured finds a socket,
// and waits in its backlog for the Receiver.
func (m *Steersman) open(ctx context.Context, x *steered) error {
	if err := x.netns.Do(loopbackUp); err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	s, err := m.openPatiently(ctx, x)
	pending := errors.Is(err, unix.EADDRINUSE)
	if err != nil && !pending {
		return err
	}
	if err := x.netns.Do(func() error { return m.o.Rules.Install(ctx) }); err != nil {
		if !pending {
			s.close()
		}
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if x.gone {
		if !pending {
			s.close()
		}
		return errors.New("it was removed meanwhile")
	}
	if pending {
		s, pending = m.claimLocked(x)
	}
	x.opening = false
	if x.pending = pending; !pending {
		m.dropOrphanLocked(x.pod.Key)
		x.s = s
		m.passLocked(x)
		return nil
	}
	if m.servedLocked() { // what it had it has told, and this was not among it
		return ErrPortTaken
	}
	return nil
}

// A Receiver that was told just now to leave a namespace may still be closing its sockets.
const (
	leaveTime = time.Second
	leavePoll = 10 * time.Millisecond
)

// openPatiently opens the sockets. Where the port is taken and a Receiver has said all
// that it has, what it leaves is waited for; without one there is nobody to wait for.
func (m *Steersman) openPatiently(ctx context.Context, x *steered) (s sockets, err error) {
	for end := time.Now().Add(leaveTime); ; {
		s, err = openSockets(x.netns, m.o.Port)
		if !errors.Is(err, unix.EADDRINUSE) || time.Now().After(end) || !m.served() {
			return s, err
		}
		select {
		case <-time.After(leavePoll):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// served reports whether a Receiver is in step with this Steersman.
func (m *Steersman) served() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.servedLocked()
}

func (m *Steersman) servedLocked() bool {
	for t := range m.sessions {
		if t.told {
			return true
		}
	}
	return false
}

// claimLocked finds the sockets that a Receiver has given back. The caller holds m.mu.
func (m *Steersman) claimLocked(x *steered) (s sockets, pending bool) {
	o, ok := m.orphans[x.pod.Key]
	if !ok || !o.pod.same(x.pod) {
		return sockets{}, true
	}
	delete(m.orphans, x.pod.Key)
	return o.s, false
}

// mayComeLocked reports whether the sockets of a namespace, which a Receiver has given
// back, are wanted soon: it is not known yet, or is just being entered. The caller holds
// m.mu.
func (m *Steersman) mayComeLocked(p Pod) bool {
	if len(m.orphans) >= m.o.Max {
		return false
	}
	x := m.pods[p.Key]
	if x == nil {
		return !m.settled
	}
	return x.opening && (x.pod.same(p) || !m.settled)
}

// dropOrphanLocked lets go of sockets that nobody has claimed. The caller holds m.mu.
func (m *Steersman) dropOrphanLocked(key string) {
	if o, ok := m.orphans[key]; ok {
		o.s.close()
		delete(m.orphans, key)
	}
}

// Settled says that every namespace that there was at the start has been added. Until
// then no Receiver is told that what it serves is not steered any more.
func (m *Steersman) Settled() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settled = true
	for key := range m.orphans {
		if x := m.pods[key]; x == nil || !x.opening {
			m.dropOrphanLocked(key)
		}
	}
	for t := range m.sessions {
		t.tell()
	}
}
