// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package kernel asks the kernel about processes: it holds one by its pidfd, so that
// whatever is asked is about that process and no later one with its PID, and it finds
// the processes of a cgroup by the id that sockets carry. It reports facts and draws
// no conclusions; those are of package process and of attestors.
package kernel

import "errors"

// Facts are what the kernel says about a process that a Process holds. UID and GID are
// the effective ones, as this process' user namespace counts them. Cgroup is the id of
// its cgroup in the v2 hierarchy, 0 where there is none. Two Facts of one Process that
// are not equal mean that it has changed its user or been moved in between.
type Facts struct {
	PID    int
	Start  uint64 // clock ticks since boot
	UID    uint32
	GID    uint32
	Cgroup uint64
}

// Executable is the program file that a process runs.
type Executable struct {
	Path     string // as the process sees it; chosen by whoever set up its file system
	Dev, Ino uint64
}

// Errors of this package. Where the system cannot be asked at all it is
// errors.ErrUnsupported.
var (
	// ErrGone: the process has ended, or the cgroup is removed.
	ErrGone = errors.New("it has ended")
	// ErrNotSeen: the kernel does not show it to us.
	ErrNotSeen = errors.New("it is not visible from here")
)
