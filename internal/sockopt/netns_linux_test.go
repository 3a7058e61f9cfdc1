// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
)

func openedDiag(t testing.TB) *Diag {
	t.Helper()
	g, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// TestDiagIsKept: one netlink socket answers many goroutines, and an answer that nobody
// waited for is not taken for the next one.
func TestDiagIsKept(t *testing.T) {
	g := openedDiag(t)
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	var wg sync.WaitGroup
	for range 8 {
		c := dial(t, "tcp4", l.Addr().String()).(*net.TCPConn)
		s := accept(t, l)
		wg.Go(func() {
			for range 20 {
				f, err := g.PeerFacts(s)
				if err != nil || f.Cookie != cookieOf(t, c) || f.PIDFD() != -1 {
					t.Errorf("got %+v, %v", f, err)
					return
				}
			}
		})
	}
	wg.Wait()

	c := dial(t, "tcp4", l.Addr().String()).(*net.TCPConn)
	s := accept(t, l)
	late := request(g.d.seq+1, c.LocalAddr().(*net.TCPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort())
	g.d.seq++
	if err := unix.Sendto(g.d.fd, late, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	if f, err := g.PeerFacts(s); err != nil || f.Cookie != cookieOf(t, c) {
		t.Errorf("after a late answer: %+v, %v", f, err)
	}
}

// TestDiagOfOneThatWasKilled: a socket that another process has used holds answers that it
// did not live to read. They are not taken for the next one's, wherever it begins to count.
func TestDiagOfOneThatWasKilled(t *testing.T) {
	first := openedDiag(t)
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	c := dial(t, "tcp4", l.Addr().String()).(*net.TCPConn)
	s := accept(t, l)
	fd, err := unix.Dup(first.d.fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "diag")
	defer f.Close()
	for _, ahead := range []uint32{0, 2, 1 << 30, 1 << 31, 1<<32 - 1} { // 1 would be the very next
		next, err := AdoptDiag(f)
		if err != nil {
			t.Fatal(err)
		}
		left := request(next.d.seq+ahead, l.Addr().(*net.TCPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort())
		if err := unix.Sendto(next.d.fd, left, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			t.Fatal(err)
		}
		if got, err := next.PeerFacts(s); err != nil || got.Cookie != cookieOf(t, c) {
			t.Errorf("%d ahead: %+v, %v", ahead, got, err)
		}
		next.Close()
	}
}

func TestDiagOfUnixSockets(t *testing.T) {
	g := openedDiag(t)
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial(t, "unix", path)
	f, err := g.PeerFacts(accept(t, l))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if f.PID != os.Getpid() || unix.PidfdSendSignal(f.PIDFD(), 0, nil, 0) != nil {
		t.Errorf("got %+v with pidfd %d", f, f.PIDFD())
	}
	fd := f.PIDFD()
	f.Close()
	if err := unix.PidfdSendSignal(fd, 0, nil, 0); !errors.Is(err, unix.EBADF) {
		t.Errorf("after Close: %v, want EBADF", err)
	}
	p, _ := net.Pipe()
	if _, err := g.PeerFacts(p); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("pipe: %v, want ErrUnsupported", err)
	}
}

// inNewNetns runs f on a thread in a network namespace of its own, which ends with it.
func inNewNetns(t *testing.T, f func()) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = loopbackUp()
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Skip(err)
	}
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// TestDiagInAnotherNetworkNamespace: a connection inside of a pod's namespace, accepted
// by a process outside of it, is found in that namespace only.
func TestDiagInAnotherNetworkNamespace(t *testing.T) {
	var here *os.File
	var c, s net.Conn
	var inner *Diag
	inNewNetns(t, func() {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		// net.Dial may resolve or race on other threads; an address literal does not.
		c, err = net.Dial("tcp4", l.Addr().String())
		if err == nil {
			s, err = l.Accept()
		}
		if err != nil {
			t.Error(err)
			return
		}
		here, err = os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
		}
		inner, err = OpenDiag()
		if err != nil {
			t.Error(err)
		}
	})
	if t.Failed() || t.Skipped() {
		return
	}
	defer func() { _ = errors.Join(c.Close(), s.Close(), here.Close()); inner.Close() }()

	if o, err := PeerOwner(s); err == nil {
		t.Errorf("our own namespace knows it: %+v", o)
	}
	if f, err := openedDiag(t).PeerFacts(s); err == nil {
		t.Errorf("our own namespace knows it: %+v", f)
	}
	entered := openedIn(t, here)
	defer entered.Close()
	adopted, err := AdoptDiag(os.NewFile(uintptr(dup(t, inner.d.fd)), "netlink"))
	if err != nil {
		t.Fatal(err)
	}
	defer adopted.Close()
	for name, g := range map[string]*Diag{"entered": entered, "adopted": adopted} {
		f, err := g.PeerFacts(s)
		if err != nil || f.Cookie != cookieOf(t, c.(*net.TCPConn)) {
			t.Errorf("%s: got %+v, %v", name, f, err)
		}
	}
	before, err := NetNS()
	if err != nil {
		t.Fatal(err)
	}
	for range 50 { // a thread that did not come back would show
		if now, err := NetNS(); err != nil || now != before {
			t.Fatalf("network namespace %d became %d: %v", before, now, err)
		}
	}
	if _, err := AdoptDiag(here); err == nil {
		t.Error("a descriptor that is not a netlink socket is adopted")
	}
}

// openedIn is a Diag by a socket that was opened in a namespace, as egret steer does.
func openedIn(t *testing.T, file *os.File) *Diag {
	t.Helper()
	ns, err := netns.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var g *Diag
	if err := ns.Do(func() (err error) { g, err = OpenDiag(); return err }); err != nil {
		t.Fatal(err)
	}
	return g
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func BenchmarkDiagPeerFacts(b *testing.B) {
	g := openedDiag(b)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		if _, err := g.PeerFacts(s); err != nil {
			b.Fatal(err)
		}
	}
}
