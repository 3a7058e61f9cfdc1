// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package sockopt asks the kernel about sockets: who owns the other end of a
// connection on this machine, and how long a dead one is kept. It reports facts and
// draws no conclusions; those are package identity's.
package sockopt

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

// Owner is what the kernel says about the process at the other end of a connection.
type Owner struct {
	UID    uint32 // effective uid that created the socket
	PID    int    // unix sockets only: the process that connected, which may have ended; else 0
	Inode  uint64 // of the peer's socket, 0 for unix sockets
	Cgroup uint64 // cgroup v2 id when the peer's socket was created, 0 where unknown
	Cookie uint64 // names the peer's socket, 0 for unix sockets; never used twice until a reboot
}

// Facts are an Owner and, for unix sockets, the process that connected, held by its
// pidfd so that it cannot be taken for a later one. They must be closed.
type Facts struct {
	Owner
	pidfd *os.File
}

// PIDFD returns the descriptor, which stays open until Close; -1 for TCP, where the
// kernel does not say which process it is.
func (f Facts) PIDFD() int {
	if f.pidfd == nil {
		return -1
	}
	return int(f.pidfd.Fd())
}

// Close lets go of the process.
func (f Facts) Close() {
	if f.pidfd != nil {
		_ = f.pidfd.Close()
	}
}

// Errors of asking for the owner. Where the system cannot be asked at all it is
// errors.ErrUnsupported.
var (
	// ErrNoOwner: no established socket of this network namespace is the other end.
	ErrNoOwner = errors.New("no local socket is the other end of the connection")
	// ErrStale: our own end is not established any more, so that what is at the other
	// address now may be another's socket (MUST I5). Drop the connection, and with it
	// whatever has been read from it.
	ErrStale = errors.New("connection is not established any more")
	// ErrRewritten: of a connection that REDIRECT brought here, netfilter has changed the
	// source too, so that the client's own socket has other ends than are seen here.
	ErrRewritten = fmt.Errorf("%w: netfilter has changed the source address or port", ErrNoOwner)
)

// How Tune keeps connections. A peer that vanished without a word is noticed within
// DeadAfter, idle or not.
const (
	keepIdle     = 30 * time.Second
	keepInterval = 10 * time.Second
	keepCount    = 3
	DeadAfter    = keepIdle + keepCount*keepInterval
)

// Tune sets keep-alive probes and, on Linux, TCP_USER_TIMEOUT, without which data that
// is never acknowledged holds a dead connection for a quarter of an hour.
func Tune(conn *net.TCPConn) error {
	err := conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepIdle, Interval: keepInterval, Count: keepCount})
	return errors.Join(err, userTimeout(conn, DeadAfter))
}
