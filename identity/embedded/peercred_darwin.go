// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import "golang.org/x/sys/unix"

// uidOfPeer returns the effective uid of the process that connected, at that time.
func uidOfPeer(fd int) (uint32, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
