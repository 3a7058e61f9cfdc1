// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// connectTo makes a copy of the test binary a client process: it connects there, says
// one line and stays until its standard input ends.
const connectTo = "EGRET_TEST_CONNECT"

func TestMain(m *testing.M) {
	if to := os.Getenv(connectTo); to != "" {
		os.Exit(client(to))
	}
	os.Exit(m.Run())
}

func client(to string) int {
	c, err := net.Dial("tcp", to)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = c.Close()
	return 0
}

func listenTCP(t *testing.T, network, addr string) *net.TCPListener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		t.Skipf("cannot listen on %s: %v", addr, err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func dial(t *testing.T, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func cookieOf(t *testing.T, c syscall.Conn) uint64 {
	t.Helper()
	var cookie uint64
	err := control(c, func(fd int) (err error) {
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return cookie
}

func inodeOf(t *testing.T, c syscall.Conn) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := control(c, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// wrapped is what *tls.Conn looks like to PeerOwner.
type wrapped struct{ net.Conn }

func (w wrapped) NetConn() net.Conn { return w.Conn }

func TestPeerOwnerTCP(t *testing.T) {
	tests := []struct{ name, network, listen, dial string }{
		{"v4", "tcp4", "127.0.0.1:0", "127.0.0.1"},
		{"v6", "tcp6", "[::1]:0", "::1"},
		{"v4 on a dual-stack listener", "tcp", "[::]:0", "127.0.0.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := listenTCP(t, tt.network, tt.listen)
			_, port, _ := net.SplitHostPort(l.Addr().String())
			c := dial(t, "tcp", net.JoinHostPort(tt.dial, port))
			for _, s := range []net.Conn{accept(t, l)} {
				checkOwner(t, s, c.(*net.TCPConn))
				checkOwner(t, wrapped{wrapped{s}}, c.(*net.TCPConn))
			}
		})
	}
}

func checkOwner(t *testing.T, s net.Conn, c *net.TCPConn) {
	t.Helper()
	got, err := PeerOwner(s)
	if err != nil {
		t.Fatal(err)
	}
	if got.UID != uint32(os.Geteuid()) || got.Inode != inodeOf(t, c) || got.Cookie != cookieOf(t, c) || got.PID != 0 {
		t.Errorf("got %+v, want uid %d inode %d cookie %d", got, os.Geteuid(), inodeOf(t, c), cookieOf(t, c))
	}
}

// TestPeerOwnerV4MappedSocket: a client whose v6 socket speaks v4 is found too.
func TestPeerOwnerV4MappedSocket(t *testing.T) {
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet6{Port: l.Addr().(*net.TCPAddr).Port, Addr: netip.MustParseAddr("::ffff:127.0.0.1").As16()}
	if err := unix.Connect(fd, to); err != nil {
		t.Fatal(err)
	}
	got, err := PeerOwner(accept(t, l))
	if err != nil {
		t.Fatal(err)
	}
	want, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil || got.Cookie != want {
		t.Errorf("cookie = %d, want %d (%v)", got.Cookie, want, err)
	}
}

func TestPeerOwnerOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	const nobody = 65534
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir = "/"
	cmd.Env = []string{connectTo + "=" + l.Addr().String()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "connected\n" {
		t.Fatalf("client said %q: %v", line, err)
	}
	got, err := PeerOwner(accept(t, l))
	if err != nil || got.UID != nobody {
		t.Errorf("owner = %+v, %v; want uid %d", got, err, nobody)
	}
}

func TestPeerOwnerRefuses(t *testing.T) {
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	pair := func(t *testing.T) (c, s *net.TCPConn) {
		c = dial(t, "tcp4", l.Addr().String()).(*net.TCPConn)
		return c, accept(t, l).(*net.TCPConn)
	}
	t.Run("half-closed peer", func(t *testing.T) {
		c, s := pair(t)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		_, _ = s.Read(make([]byte, 1)) // the end has arrived
		if o, err := PeerOwner(s); !errors.Is(err, ErrNoOwner) {
			t.Errorf("got %+v, %v; want ErrNoOwner", o, err)
		}
	})
	t.Run("closed peer", func(t *testing.T) {
		c, s := pair(t)
		_ = c.Close()
		_, _ = s.Read(make([]byte, 1))
		if o, err := PeerOwner(s); !errors.Is(err, ErrNoOwner) {
			t.Errorf("got %+v, %v; want ErrNoOwner", o, err)
		}
	})
	t.Run("own end closed", func(t *testing.T) {
		_, s := pair(t)
		_ = s.Close()
		if o, err := PeerOwner(s); err == nil {
			t.Errorf("got %+v, want an error", o)
		}
	})
	t.Run("pipe", func(t *testing.T) {
		c, _ := net.Pipe()
		defer c.Close()
		if o, err := PeerOwner(c); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %+v, %v; want ErrUnsupported", o, err)
		}
	})
	t.Run("listener at the peer's address", func(t *testing.T) {
		d := opened(t)
		// The kernel's look-up answers with the listener here.
		us, them := l.Addr().(*net.TCPAddr).AddrPort(), netip.MustParseAddrPort("127.0.0.1:1")
		if o, err := d.find(us, them); !errors.Is(err, ErrNoOwner) {
			t.Errorf("got %+v, %v; want ErrNoOwner", o, err)
		}
	})
}

func opened(t *testing.T) *diag {
	t.Helper()
	d, err := openDiag()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// TestMUST_I5_StaleSocketIsNotTheNewOwners plays the attack: a process sends a request,
// resets its connection, and another process takes the same 4-tuple. The proxy still
// reads the first one's bytes, and asking the kernel by address alone names the second
// one as the sender.
func TestMUST_I5_StaleSocketIsNotTheNewOwners(t *testing.T) {
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	attacker := dialFrom(t, l.Addr().String(), 0)
	if _, err := attacker.Write([]byte("evil")); err != nil {
		t.Fatal(err)
	}
	stale := accept(t, l)
	waitReadable(t, stale)
	from := attacker.LocalAddr().(*net.TCPAddr).AddrPort()
	if err := errors.Join(attacker.SetLinger(0), attacker.Close()); err != nil {
		t.Fatal(err)
	}
	victim := dialFrom(t, l.Addr().String(), from.Port())
	fresh := accept(t, l)

	// Without the check: the look-up says the victim owns the attacker's bytes.
	named, err := opened(t).find(from, l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil || named.Cookie != cookieOf(t, victim) {
		t.Fatalf("attack does not reproduce: %+v, %v", named, err)
	}
	buf := make([]byte, 4)
	if _, err := stale.Read(buf); err != nil || string(buf) != "evil" {
		t.Fatalf("attack does not reproduce: read %q, %v", buf, err)
	}
	// With it:
	if o, err := PeerOwner(stale); !errors.Is(err, ErrStale) {
		t.Errorf("stale connection: got %+v, %v; want ErrStale", o, err)
	}
	checkOwner(t, fresh, victim)
}

// TestMUST_I5_OwnState: each of the three conditions is one that refuses by itself.
func TestMUST_I5_OwnState(t *testing.T) {
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	t.Run("another socket's cookie", func(t *testing.T) {
		dial(t, "tcp4", l.Addr().String())
		s := accept(t, l).(*net.TCPConn)
		cookie := cookieOf(t, s)
		if err := control(s, func(fd int) error { return stillEstablished(fd, cookie) }); err != nil {
			t.Errorf("the right cookie: %v", err)
		}
		if err := control(s, func(fd int) error { return stillEstablished(fd, cookie+1) }); !errors.Is(err, ErrStale) {
			t.Errorf("a wrong cookie: %v, want ErrStale", err)
		}
	})
	t.Run("reset", func(t *testing.T) {
		c := dialFrom(t, l.Addr().String(), 0)
		s := accept(t, l).(*net.TCPConn)
		cookie := cookieOf(t, s)
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := control(s, func(fd int) error { return stillEstablished(fd, cookie) }); !errors.Is(err, ErrStale) {
			t.Errorf("got %v, want ErrStale", err)
		}
	})
}

// dialFrom connects from a chosen port, which may just have been another socket's.
func dialFrom(t *testing.T, addr string, port uint16) *net.TCPConn {
	t.Helper()
	d := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)},
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}), err)
		},
	}
	c, err := d.Dial("tcp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// waitReadable waits until bytes have arrived, without reading them.
func waitReadable(t *testing.T, c net.Conn) {
	t.Helper()
	err := control(c.(syscall.Conn), func(fd int) error {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 2000)
		if err == nil && n == 0 {
			err = errors.New("nothing arrived")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPeerOwnerUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dial(t, "unix", path)
	s := accept(t, l)
	got, err := PeerOwner(s)
	if want := (Owner{UID: uint32(os.Geteuid()), PID: os.Getpid()}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	pidfd, err := PeerPIDFD(s.(*net.UnixConn))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer pidfd.Close()
	if err := unix.PidfdSendSignal(int(pidfd.Fd()), 0, nil, 0); err != nil {
		t.Errorf("the process of the pidfd is not alive: %v", err)
	}
}

func TestTune(t *testing.T) {
	l := listenTCP(t, "tcp4", "127.0.0.1:0")
	c := dial(t, "tcp4", l.Addr().String()).(*net.TCPConn)
	if err := Tune(c); err != nil {
		t.Fatal(err)
	}
	want := map[int]int{
		unix.TCP_USER_TIMEOUT: int(DeadAfter / time.Millisecond),
		unix.TCP_KEEPIDLE:     30, unix.TCP_KEEPINTVL: 10, unix.TCP_KEEPCNT: 3,
	}
	for opt, value := range want {
		err := control(c, func(fd int) error {
			got, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, opt)
			if err == nil && got != value {
				err = fmt.Errorf("option %d is %d, want %d", opt, got, value)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// FuzzReply: whatever arrives, an owner is believed only for the tuple asked for, with
// an inode.
func FuzzReply(f *testing.F) {
	src, dst := netip.MustParseAddrPort("127.0.0.1:1000"), netip.MustParseAddrPort("127.0.0.1:2000")
	good := make([]byte, unix.SizeofNlMsghdr+msgSize+12)
	copy(good, request(1, src, dst)[:unix.SizeofNlMsghdr])
	good[0], good[4] = byte(len(good)), unix.SOCK_DIAG_BY_FAMILY
	body := good[unix.SizeofNlMsghdr:]
	body[0], body[1] = unix.AF_INET, tcpEstablished
	copy(body[msgID:], request(1, src, dst)[unix.SizeofNlMsghdr+8:])
	body[msgInode] = 7
	copy(body[msgSize:], []byte{12, 0, attrCgrp, 0, 9})
	if b, err := reply(good, 1); err != nil {
		f.Fatal(err)
	} else if o, err := owner(b, src, dst); err != nil || o.Inode != 7 || o.Cgroup != 9 {
		f.Fatalf("the good answer is not read: %+v, %v", o, err)
	} else if o, err := owner(b, dst, src); !errors.Is(err, ErrNoOwner) {
		f.Fatalf("an answer about another tuple is believed: %+v, %v", o, err)
	}
	f.Add(good)
	f.Add(good[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := reply(b, 1)
		if err != nil {
			return
		}
		o, err := owner(body, src, dst)
		if err == nil && (o.Inode == 0 || body[1] != tcpEstablished) {
			t.Errorf("believed %+v from %x", o, b)
		}
	})
}

func BenchmarkPeerOwner(b *testing.B) {
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
		if _, err := PeerOwner(s); err != nil {
			b.Fatal(err)
		}
	}
}
