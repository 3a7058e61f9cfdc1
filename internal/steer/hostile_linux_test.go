// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
)

// pair is two ends of a SEQPACKET socket.
func pair(t testing.TB) (a, b *wire) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	end := func(fd int) *wire {
		f := os.NewFile(uintptr(fd), "end")
		defer f.Close()
		c, err := net.FileConn(f)
		check(t, err)
		t.Cleanup(func() { _ = c.Close() })
		return &wire{conn: c.(*net.UnixConn)}
	}
	return end(fds[0]), end(fds[1])
}

// openFDs counts the descriptors of this process.
func openFDs(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(list)
}

// Whatever comes, a packet is a message that fits its type, or an error without a
// descriptor left open.
func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"type":"add","pod":{"key":"a","netns":1},"listeners":1}`), 2)
	f.Add([]byte(`{"type":"hello","version":1}`), 0)
	f.Add([]byte(`{"type":"have"}`), 3)
	f.Add([]byte(`{"type":"remove","pod":{"key":"a b","netns":1}}`), 0)
	f.Add([]byte{}, 1)
	f.Fuzz(func(t *testing.T, data []byte, n int) {
		if len(data) > maxPacket+64 || n < 0 || n > maxFDs {
			t.Skip()
		}
		a, b := pair(t)
		null, err := os.Open(os.DevNull)
		check(t, err)
		defer null.Close()
		before := openFDs(t)
		fds := make([]int, n)
		for i := range fds {
			fds[i] = int(null.Fd())
		}
		var rights []byte
		if n > 0 {
			rights = unix.UnixRights(fds...)
		}
		if _, _, err := a.conn.WriteMsgUnix(data, rights, nil); err != nil {
			t.Skip(err)
		}
		m, files, err := b.receive()
		if err == nil {
			if m.check() != nil {
				t.Errorf("taken: %+v", m)
			}
			if m.Type == typeAdd || m.Type == typeHave {
				if s, err := socketsOf(m, files); err == nil {
					t.Errorf("sockets out of nothing: %+v", s)
				}
			} else {
				closeAll(files)
			}
		} else if len(files) > 0 {
			t.Error("descriptors with an error")
		}
		if after := openFDs(t); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
}

func TestReceiveTellsTheEnd(t *testing.T) {
	a, b := pair(t)
	check(t, a.conn.Close())
	if _, _, err := b.receive(); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

// A socket of another namespace is never served as this one's.
func TestSocketsOfAnotherNamespace(t *testing.T) {
	a, b := newNetNS(t), newNetNS(t)
	open := func(path string) (sockets, uint64) {
		f, err := netns.Open(path)
		check(t, err)
		defer f.Close()
		check(t, f.Do(loopbackUp))
		s, err := openSockets(f, testPort)
		check(t, err)
		cookie, err := cookieOf(s.diag)
		check(t, err)
		return s, cookie
	}
	one, cookie := open(a)
	two, other := open(b)
	t.Cleanup(func() { one.close(); two.close() })
	if one.check(cookie) != nil || two.check(other) != nil {
		t.Fatal("good sockets are refused")
	}
	for name, s := range map[string]sockets{
		"all of it":    two,
		"one listener": {listeners: []*os.File{one.listeners[0], two.listeners[1]}, diag: one.diag},
		"the diag":     {listeners: one.listeners, diag: two.diag},
		"no listener":  {listeners: []*os.File{one.diag}, diag: one.diag},
	} {
		if err := s.check(cookie); !errors.Is(err, errProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The Steersman breaks with whoever does not speak as a Receiver does, and serves the
// others.
func TestHostileReceivers(t *testing.T) {
	w := newWorld(t)
	w.steersman().Settled()
	for name, send := range map[string]func(*wire) error{
		"version": func(x *wire) error { return x.send(message{Type: typeHello, Version: 2}) },
		"silence": func(x *wire) error { return x.conn.CloseWrite() },
		"an add": func(x *wire) error {
			return errors.Join(x.send(message{Type: typeHello, Version: version}), x.send(message{Type: typeAdd, Pod: &Pod{Key: "a", NetNS: 1}}))
		},
		"not a message": func(x *wire) error { _, err := x.conn.Write([]byte("{")); return err },
		"too much":      func(x *wire) error { _, err := x.conn.Write([]byte(strings.Repeat("x", maxPacket+2))); return err },
		"a file for a socket": func(x *wire) error {
			f, err := os.Open(os.DevNull)
			check(t, err)
			defer f.Close()
			return errors.Join(x.send(message{Type: typeHello, Version: version}), x.send(message{Type: typeHave, Pod: &Pod{Key: "a", NetNS: 1}, Listeners: 1}, f, f))
		},
	} {
		c, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: w.socket, Net: "unixpacket"})
		check(t, err)
		x := &wire{conn: c}
		check(t, send(x))
		check(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
		for {
			m, files, err := x.receive()
			closeAll(files)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: the connection goes on", name)
			}
			if err != nil {
				break
			}
			if m.Type != typeBye {
				t.Errorf("%s: was told %+v", name, m)
			}
		}
		_ = c.Close()
	}
	h := newEcho()
	a := newNetNS(t)
	w.receiver(h)
	check(t, w.add("a", a))
	check(t, w.served("a"))
}

// Pods come and go, with the Receiver and the Steersman restarting in between, and
// nothing is left: no descriptor, no goroutine (TestMain), no pod.
func TestChurn(t *testing.T) {
	w := newWorld(t)
	h := newEcho()
	w.steersman().Settled()
	w.receiver(h)
	eventually(t, "the receiver", func() bool { return w.r.Health() == nil })
	paths := []string{newNetNS(t), newNetNS(t), newNetNS(t)}
	before := openFDs(t)
	begin := time.Now()
	const rounds = 100
	for i := range rounds {
		for j, path := range paths {
			key := fmt.Sprintf("pod-%d-%d", i, j)
			check(t, w.add(key, path))
			check(t, w.served(key))
			w.m.Remove(t.Context(), key)
		}
		if i == rounds/2 {
			w.endR()
			w.receiver(h)
		}
	}
	t.Logf("%d pods came and went in %s", rounds*len(paths), time.Since(begin).Round(time.Millisecond))
	eventually(t, "all to be left", func() bool { begun, ended := h.counts(); return begun == ended && begun >= rounds*len(paths) })
	eventually(t, "descriptors to be closed", func() bool { return openFDs(t) <= before })
	if w.rules.in != w.rules.out {
		t.Errorf("rules installed %d times, removed %d", w.rules.in, w.rules.out)
	}
}
