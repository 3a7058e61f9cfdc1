// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// Peer is what the kernel says about the process at the other end of a unix socket: its
// effective uid, and its pid (0 where unknown), when it connected.
type Peer struct {
	UID uint32
	PID int32
}

// overflowUID is what the kernel shows for every uid that this user namespace does not
// map, so it names nobody in particular.
const overflowUID = 65534

var errNotUnix = errors.New("not a unix socket")

// peerOf asks the kernel.
func peerOf(c net.Conn) (Peer, error) {
	if l, ok := c.(*limitedConn); ok {
		c = l.Conn
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Peer{}, errNotUnix
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Peer{}, err
	}
	var p Peer
	var perr error
	if err := withFD(raw, func(fd int) { p, perr = peerOfFD(fd) }); err != nil {
		return Peer{}, err
	}
	if perr != nil {
		return Peer{}, fmt.Errorf("peer credentials: %w", perr)
	}
	return p, nil
}

func withFD(raw syscall.RawConn, f func(fd int)) error {
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}
