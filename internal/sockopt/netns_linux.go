// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"errors"
	"fmt"
	"net"
	"os"
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
