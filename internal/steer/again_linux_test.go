// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
)

// awaitOrphan waits until a Receiver has given sockets back that nobody has claimed, and no
// longer than that may take: it is called on another goroutine than the test's.
func (m *Steersman) awaitOrphan() {
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		m.mu.Lock()
		n := len(m.orphans)
		m.mu.Unlock()
		if n == 1 {
			return
		}
	}
}

// A Receiver that gives sockets back while a new Steersman is just renewing the rules of
// their namespace is not taken for somebody who has the port.
func TestGivenBackWhileRulesAreMade(t *testing.T) {
	a := newNetNS(t)
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	check(t, w.add("a", a))
	check(t, w.served("a"))
	w.endM()
	m := w.steersman()
	w.rules.gate = m.awaitOrphan
	check(t, w.add("a", a))
	m.Settled()
	check(t, w.served("a"))
	if begun, ended := h.counts(); begun != 1 || ended != 0 {
		t.Errorf("served %d times, left %d times", begun, ended)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.orphans) != 0 {
		t.Errorf("%d sockets are kept for nobody", len(m.orphans))
	}
}

// What has been given back for a namespace that then cannot be steered is let go of.
func TestGivenBackInVain(t *testing.T) {
	a := newNetNS(t)
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	check(t, w.add("a", a))
	check(t, w.served("a"))
	w.endM()
	before := openFDs(t)
	m := w.steersman()
	w.rules.gate = m.awaitOrphan
	w.rules.refuses = errors.New("no nft")
	if err := w.add("a", a); err == nil {
		t.Error("without rules")
	}
	m.mu.Lock()
	kept := len(m.orphans)
	m.mu.Unlock()
	if kept != 0 {
		t.Errorf("%d sockets are kept for nobody", kept)
	}
	w.endM()
	eventually(t, "descriptors to be closed, the Receiver's own between two tries among them", func() bool { return openFDs(t) <= before })
}

// A namespace that is tried again is captured all the while.
func TestTriedAgainWithoutAGap(t *testing.T) {
	a := newNetNS(t)
	f, err := netns.Open(a)
	check(t, err)
	defer f.Close()
	check(t, f.Do(loopbackUp))
	var squatter *os.File
	check(t, f.Do(func() (err error) { squatter, err = listen("tcp4", fmt.Sprintf("127.0.0.1:%d", testPort)); return err }))
	w := newWorld(t)
	w.steersman().Settled()
	w.receiver(newEcho())
	eventually(t, "the receiver", func() bool { return w.r.Health() == nil })
	if err := w.add("a", a); !errors.Is(err, ErrPortTaken) || !w.m.Blocked("a") {
		t.Errorf("told: %v, blocked: %v", err, w.m.Blocked("a"))
	}
	check(t, squatter.Close())
	check(t, w.add("a", a))
	check(t, w.served("a"))
	if w.rules.in != 2 || w.rules.out != 0 || w.m.Blocked("a") || w.m.Blocked("b") {
		t.Errorf("rules installed %d times, removed %d times", w.rules.in, w.rules.out)
	}
}

// TestMUST_P3_TheReceiversOwnNamespaceIsALoop: what is captured there is reset at once and
// counted; nobody is served, and that is told.
func TestMUST_P3_TheReceiversOwnNamespaceIsALoop(t *testing.T) {
	here, err := cookieHere()
	check(t, err)
	if here == initialNetNS || os.Geteuid() != 0 {
		t.Skip("a Steersman refuses the machine's first namespace itself")
	}
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.m.own = 0 // it is elsewhere
	w.receiver(h)
	eventually(t, "the receiver", func() bool { return w.r.Health() == nil })
	check(t, w.add("own", "/proc/thread-self/ns/net"))
	if err := w.served("own"); err == nil || err.Error() != "pod own "+ErrLoop.Error() {
		t.Errorf("told: %v", err)
	}
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", testPort), 5*time.Second)
	if err == nil {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a connection that is brought back: %v", err)
	}
	eventually(t, "it to be counted", func() bool { return w.r.Counts() == Counts{Refused: 1, Loops: 1} })
	if begun, _ := h.counts(); begun != 0 {
		t.Error("somebody was served")
	}
	w.endM()
	w.steersman()
	w.m.own = 0
	check(t, w.add("own", "/proc/thread-self/ns/net"))
	w.m.Settled()
	if err := w.served("own"); err == nil {
		t.Error("served by the next Steersman")
	}
	eventually(t, "health to tell", func() bool { return errors.Is(w.r.Health(), ErrLoop) })
}
