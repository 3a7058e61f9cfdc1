// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package memory tells Go's garbage collector what it cannot know: how much memory the
// process may have, and how much it may spend to be left in peace. It is no cache and no
// allocator.
package memory

import (
	"io/fs"
	"log/slog"
	"math"
	"path"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

const (
	headroom = 32 << 20 // garbage that may gather whatever is in use
	share    = 10       // of a limit: what is left to memory that is not Go's, and most of what headroom may take
)

// Settings are in force from Settle until Release.
type Settings struct{ room []byte }

// Settle sets the soft limit from the process' cgroup, unless GOMEMLIMIT does, and the
// headroom, unless GOGC says how to collect. root is the root of the file system.
//
// The limit: a container that comes near its own is killed, with every connection in it.
// Told of nine tenths of it, Go collects more often instead; the last tenth is for what is
// charged to the container and is not Go's, above all the kernel's socket buffers.
//
// The headroom: Go collects whenever the heap has doubled. A proxy has little in use and
// makes much garbage, so that with 6 MiB in use it would collect ten times a second, at 5 to
// 10 % of its CPU. An allocation that is never touched, and so takes no memory, counts as in
// use: the next collection comes after that many bytes more. Memory that is idle stays as
// small as it was.
func Settle(root fs.FS, getenv func(string) string) *Settings {
	s := &Settings{}
	room := int64(headroom)
	if limit := cgroupLimit(root); limit > 0 {
		if getenv("GOMEMLIMIT") == "" {
			debug.SetMemoryLimit(limit - limit/share)
		}
		room = min(room, limit/share)
	}
	if getenv("GOGC") == "" {
		s.room = make([]byte, room)
	}
	return s
}

// LogValue implements slog.LogValuer: the bytes that Go's memory is kept below, by whomever
// that was set.
func (*Settings) LogValue() slog.Value {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		return slog.Int64Value(n)
	}
	return slog.StringValue("unlimited")
}

// Release ends the headroom. The limit stays.
func (s *Settings) Release() {
	runtime.KeepAlive(s.room)
	s.room = nil
}

// cgroupLimit returns the least limit on memory of the process' cgroup and those above it,
// 0 where there is none or nothing can be read.
func cgroupLimit(root fs.FS) int64 {
	list, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(list)) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, name, _ := strings.Cut(rest, ":")
		switch {
		case controllers == "": // version 2
			least = min(least, leastAbove(root, "sys/fs/cgroup", name, "memory.max"))
		case strings.Contains(","+controllers+",", ",memory,"):
			least = min(least, leastAbove(root, "sys/fs/cgroup/memory", name, "memory.limit_in_bytes"))
		}
	}
	if least >= 1<<60 { // version 1 writes no limit as a large number
		return 0
	}
	return least
}

// leastAbove looks at a group and all above it. Inside a container the names of the outside
// may be missing; what is mounted at the top is its own then.
func leastAbove(root fs.FS, mount, name, file string) int64 {
	least := int64(math.MaxInt64)
	for dir := path.Clean("/" + name); ; dir = path.Dir(dir) {
		if b, err := fs.ReadFile(root, path.Join(mount, dir, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 { // otherwise it is "max"
				least = min(least, n)
			}
		}
		if dir == "/" {
			return least
		}
	}
}
