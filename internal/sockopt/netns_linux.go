// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Diag asks about the sockets of one network namespace, over a netlink socket that it
// keeps: a query costs half of what PeerOwner takes, which opens one each time. It is
// safe for concurrent use.
type Diag struct {
	mu sync.Mutex
	d  *diag
}

// OpenDiag asks in the network namespace that this process is in.
func OpenDiag() (*Diag, error) {
	d, err := openDiag()
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	return &Diag{d: d}, nil
}

// OpenDiagIn asks in the network namespace of a descriptor, such as that of an open
// /proc/PID/ns/net. It needs CAP_SYS_ADMIN, and so belongs into the helper that has it;
// the process with the credentials takes what the helper made by AdoptDiag.
func OpenDiagIn(netns *os.File) (*Diag, error) {
	type result struct {
		d   *diag
		err error
	}
	done := make(chan result)
	go func() {
		d, err := openIn(int(netns.Fd()))
		done <- result{d, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("open sock_diag in a network namespace: %w", r.err)
	}
	return &Diag{d: r.d}, nil
}

// openIn enters the namespace with its thread and comes back. The thread of a goroutine
// that could not come back is not unlocked, and so ends with it.
func openIn(netns int) (*diag, error) {
	runtime.LockOSThread()
	home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer func() { _ = unix.Close(home) }()
	if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	d, err := openDiag()
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return d, errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return d, err
}

// AdoptDiag asks by a NETLINK_SOCK_DIAG socket that another process has opened: it goes
// on seeing the network namespace that it was opened in, and asking needs no right. The
// descriptor is duplicated.
func AdoptDiag(f *os.File) (*Diag, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("adopt sock_diag: %w", err)
	}
	if p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != unix.NETLINK_SOCK_DIAG {
		return nil, errors.Join(errors.New("adopt sock_diag: descriptor is not a NETLINK_SOCK_DIAG socket"), err, unix.Close(fd))
	}
	d, err := newDiag(fd)
	if err != nil {
		return nil, fmt.Errorf("adopt sock_diag: %w", err)
	}
	return &Diag{d: d}, nil
}

// PeerFacts is PeerOwner in the namespace of the Diag, with the process of a unix
// socket held. Before Linux 6.5 there is nothing to hold it by, and unix sockets get
// errors.ErrUnsupported.
func (g *Diag) PeerFacts(conn net.Conn) (Facts, error) {
	switch c := unwrap(conn).(type) {
	case *net.TCPConn:
		g.mu.Lock()
		defer g.mu.Unlock()
		o, err := g.d.tcpOwner(c)
		return Facts{Owner: o}, err
	case *net.UnixConn:
		return unixFacts(c)
	}
	return Facts{}, fmt.Errorf("owner of the peer of a %T: %w", conn, errors.ErrUnsupported)
}

func unixFacts(c *net.UnixConn) (Facts, error) {
	o, err := unixOwner(c)
	if err != nil {
		return Facts{}, err
	}
	pidfd, err := PeerPIDFD(c)
	if errors.Is(err, unix.ESRCH) {
		return Facts{}, fmt.Errorf("%w: the process that connected has ended", ErrNoOwner)
	}
	return Facts{Owner: o, pidfd: pidfd}, err
}

// Close closes the netlink socket.
func (g *Diag) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.d.close()
	g.d.fd = -1
}
