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
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}

func processOfPeer(syscall.RawConn) (*kernel.Process, error) { return nil, errors.ErrUnsupported }
