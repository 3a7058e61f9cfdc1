// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessCPU returns the CPU time that a process has used so far, user and system
// together, of all its threads, ended ones included. It reads the process' own CPU
// clock (clock_getcpuclockid(3)), which counts nanoseconds where /proc/PID/stat counts
// ticks of 10 ms.
func ProcessCPU(pid int) (time.Duration, error) {
	const sched = 2 // CPUCLOCK_SCHED of linux/posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|sched, &ts); err != nil {
		return 0, fmt.Errorf("reading the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// MachineUsage reads the machine's CPU time, in steps of 10 ms.
func MachineUsage() (Usage, bool) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Usage{}, false
	}
	return parseStat(b)
}

// SleepUntil sleeps in the kernel. time.Sleep of an idle Go program rounds up to whole
// milliseconds (epoll_wait's unit), which would show in every latency. The caller's
// goroutine should be locked to its thread.
func SleepUntil(t time.Time) {
	for d := time.Until(t); d > 0; d = time.Until(t) {
		ts := unix.NsecToTimespec(int64(d))
		_ = unix.Nanosleep(&ts, nil) // interrupted: the loop sleeps on
	}
}
