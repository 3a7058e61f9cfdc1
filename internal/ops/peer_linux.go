// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import "golang.org/x/sys/unix"

func peerOfFD(fd int) (Peer, error) {
	c, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	return Peer{UID: c.Uid, PID: c.Pid}, nil
}
