// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package netns opens sockets in network namespaces other than the process' own. A
// namespace is held by a descriptor: a name or a number of it may be given to another
// later. Entering one needs CAP_SYS_ADMIN, so this belongs into privileged helpers and
// tests, never into the process that holds credentials.
package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// NS is one network namespace. It lives at least as long as it is open. Safe for
// concurrent use.
type NS struct{ file *os.File }

// Open holds the namespace at a path: /run/netns/NAME or /proc/PID/ns/net.
func Open(path string) (*NS, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO in its place hangs nobody
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Type != unix.NSFS_MAGIC {
		return nil, errors.Join(fmt.Errorf("%q %w", path, ErrNotNamespace), f.Close())
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		return nil, errors.Join(fmt.Errorf("%q %w", path, ErrNotNamespace), f.Close())
	}
	return &NS{file: f}, nil
}

// ErrNotNamespace: the file is something else.
var ErrNotNamespace = errors.New("is not a network namespace")

// ID names the namespace among those that exist now: the inode of its file.
func (n *NS) ID() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.file.Fd()), &st); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return st.Ino, nil
}

// File returns the descriptor, which Close closes.
func (n *NS) File() *os.File { return n.file }

// Close lets go of the namespace.
func (n *NS) Close() error { return n.file.Close() }

// Do calls f on a thread that is in the namespace. Sockets that f opens stay there; what
// f starts as goroutines runs outside. A thread that cannot come back ends.
func (n *NS) Do(f func() error) error {
	done := make(chan error, 1)
	go func() { done <- n.enter(f) }()
	return <-done
}

func (n *NS) enter(f func() error) error {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("network namespace: %w", err)
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	err = f()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, fmt.Errorf("leave a network namespace: %w", back)) // still locked: the thread ends
	}
	runtime.UnlockOSThread()
	return err
}

// Listen listens in the namespace.
func (n *NS) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = n.Do(func() (err error) {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	return l, err
}

// Dial connects from the namespace to an IP address with a port: a name would be looked
// up, and one of several addresses tried, on other threads.
func (n *NS) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, fmt.Errorf("address %q must be ip:port", address)
	}
	err = n.Do(func() (err error) {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}
