// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import "golang.org/x/sys/unix"

func peerOfFD(fd int) (Peer, error) {
	c, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	if err != nil {
		pid = 0 // for the record only
	}
	return Peer{UID: c.Uid, PID: int32(pid)}, nil
}
