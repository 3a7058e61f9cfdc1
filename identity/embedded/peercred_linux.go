// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/identity/kernel"
)

// uidOfPeer returns the effective uid of the process that connected, at that time.
func uidOfPeer(fd int) (uint32, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

// processOfPeer holds the process that connected. errors.ErrUnsupported before Linux 6.5.
func processOfPeer(raw syscall.RawConn) (*kernel.Process, error) {
	var p *kernel.Process
	var err error
	ask := raw.Control(func(fd uintptr) {
		var pidfd int
		if pidfd, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err != nil {
			return
		}
		p, err = kernel.Adopt(pidfd)
		_ = unix.Close(pidfd)
	})
	if errors.Is(err, unix.ENOPROTOOPT) {
		err = errors.ErrUnsupported
	}
	return p, errors.Join(ask, err)
}
