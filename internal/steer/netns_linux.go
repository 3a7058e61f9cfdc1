// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// cookieHere is the cookie of the network namespace that the thread is in.
func cookieHere() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close() //nolint:errcheck // nothing was written
	cookie, err := cookieOf(f)
	if err != nil {
		return 0, fmt.Errorf("cookie of the network namespace: %w (it needs Linux 5.14)", err)
	}
	return cookie, nil
}

// openSockets makes what serves a namespace: listening sockets on its loopback, for IPv4
// and where the namespace has it IPv6, and a sock_diag. The error wraps EADDRINUSE where
// the port is taken, by a Receiver that still serves it, or by the pod.
func openSockets(ns *netns.NS, port uint16) (s sockets, err error) {
	err = ns.Do(func() error {
		v4, err := listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return err
		}
		s.listeners = append(s.listeners, v4)
		v6, err := listen("tcp6", fmt.Sprintf("[::1]:%d", port))
		switch {
		case err == nil:
			s.listeners = append(s.listeners, v6)
		case !errors.Is(err, unix.EADDRNOTAVAIL) && !errors.Is(err, unix.EAFNOSUPPORT):
			return err // it has IPv6, and somebody else listens there
		}
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
		if err != nil {
			return fmt.Errorf("open sock_diag: %w", err)
		}
		s.diag = os.NewFile(uintptr(fd), "sock_diag")
		return nil
	})
	if err != nil {
		closeAll(s.listeners)
		if s.diag != nil {
			_ = s.diag.Close()
		}
		return sockets{}, err
	}
	return s, nil
}

// listen makes a listening socket in the namespace of the thread. Neither SO_REUSEADDR nor
// SO_REUSEPORT is set: a process of the pod must not be able to share the port. (Go sets
// SO_REUSEADDR, which on Linux shares no port that is listened on.) It may take connections
// to any address, for rules of TPROXY; for those of REDIRECT that changes nothing.
func listen(network, address string) (*os.File, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var inner error
		err := c.Control(func(fd uintptr) {
			if network == "tcp6" {
				inner = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_V6ONLY, 1)
			}
			inner = errors.Join(inner, sockopt.SetTransparent(int(fd), network))
		})
		return errors.Join(err, inner)
	}}
	l, err := lc.Listen(context.Background(), network, address)
	if err != nil {
		return nil, err
	}
	defer l.Close()                    // File has a descriptor of its own
	return l.(*net.TCPListener).File() //nolint:forcetypeassert // TCP
}

// loopbackUp makes sure that the namespace has loopback, without which nothing can
// be redirected to it.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return err
	}
	if ifr.Uint16()&unix.IFF_UP != 0 {
		return nil
	}
	ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
