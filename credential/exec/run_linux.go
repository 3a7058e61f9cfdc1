// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes: a group of its own, which ends with egret.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// awaitExit waits for the end of a child and leaves it a zombie. False: the kernel cannot
// say, and whoever reaps it waits.
func awaitExit(pid int) bool {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return err == nil
		}
	}
}
