// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"
)

// dropped marks a process that has dropped what it does not need.
const dropped = "EGRET_STEER_DROPPED"

// lastCap is more than the kernel has; asking for one that it lacks is an error.
const lastCap = 63

// Drop leaves this process, and all that it starts, with no capability but those that are
// kept. Capabilities belong to threads, and Go has many: so the bounding set of one thread
// is cut, and that one executes the program anew. It returns where that has been done
// already, and does not return where it does it. What the new process needs open it must
// open itself.
func Drop(keep ...uintptr) error {
	if os.Getenv(dropped) == strconv.Itoa(os.Getpid()) {
		return nil
	}
	runtime.LockOSThread()
	kept := map[uintptr]bool{}
	for _, c := range keep {
		kept[c] = true
	}
	for c := uintptr(0); c <= lastCap; c++ {
		if has, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); kept[c] || err != nil || has == 0 {
			continue // a container that is given no more needs no CAP_SETPCAP
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
			return fmt.Errorf("drop capability %d: %w (start egret steer as root, with CAP_SETPCAP or with no capability but those that it keeps)", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	env := append(os.Environ(), dropped+"="+strconv.Itoa(os.Getpid()))
	return unix.Exec(self, os.Args, env)
}
