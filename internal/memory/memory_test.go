// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

func system(files map[string]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestCgroupLimit(t *testing.T) {
	const self = "proc/self/cgroup"
	for name, tc := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"no cgroups": {nil, 0},
		"container":  {map[string]string{self: "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n"}, 256 << 20},
		"no limit":   {map[string]string{self: "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, 0},
		"the least of those above": {map[string]string{
			self: "0::/kubepods/pod1/egret\n", "sys/fs/cgroup/kubepods/pod1/egret/memory.max": "max\n",
			"sys/fs/cgroup/kubepods/pod1/memory.max": "67108864\n", "sys/fs/cgroup/kubepods/memory.max": "134217728\n",
		}, 64 << 20},
		"the names of the outside": {map[string]string{self: "0::/../../system.slice/x\n", "sys/fs/cgroup/memory.max": "1000000\n"}, 1000000},
		"version 1": {map[string]string{
			self: "9:cpu,cpuacct:/a\n4:memory:/docker/7f\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
			"sys/fs/cgroup/memory/docker/7f/memory.limit_in_bytes": "1048576\n",
		}, 1 << 20},
		"version 1 without a limit": {map[string]string{self: "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"nonsense":                  {map[string]string{self: "\n:\n::\n0::\n", "sys/fs/cgroup/memory.max": "-7\n"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got := cgroupLimit(system(tc.files)); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestSettle(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	limited := system(map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "104857600\n"})
	for name, tc := range map[string]struct {
		env   map[string]string
		limit int64 // in force afterwards
		room  int
	}{
		"nothing said": {nil, 90 << 20, 10 << 20},
		"GOMEMLIMIT":   {map[string]string{"GOMEMLIMIT": "50MiB"}, math.MaxInt64, 10 << 20},
		"GOGC":         {map[string]string{"GOGC": "50"}, 90 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			debug.SetMemoryLimit(math.MaxInt64)
			s := Settle(limited, func(name string) string { return tc.env[name] })
			defer s.Release()
			if got := debug.SetMemoryLimit(-1); got != tc.limit {
				t.Errorf("the limit is %d, want %d", got, tc.limit)
			}
			shown := slog.AnyValue(s).Resolve()
			if tc.limit == math.MaxInt64 && shown.String() != "unlimited" || tc.limit != math.MaxInt64 && shown.Int64() != tc.limit {
				t.Errorf("the log shows %v", shown)
			}
			if len(s.room) != tc.room {
				t.Errorf("headroom of %d, want %d", len(s.room), tc.room)
			}
		})
	}
}

// The headroom keeps the collector away, and takes no memory itself.
func TestHeadroomPutsCollectionsOff(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the memory that is in use is read from /proc")
	}
	if grown := leastGrowth(t); grown > headroom/2 {
		t.Errorf("%d bytes more are resident", grown)
	}
	without := collections()
	s := Settle(fstest.MapFS{}, func(string) string { return "" })
	runtime.GC()
	with := collections()
	s.Release()
	if with*3 > without || without == 0 {
		t.Errorf("%d collections with headroom, %d without", with, without)
	}
}

// leastGrowth is how much memory the headroom takes, of some tries: the runtime may put it
// where garbage has been, whose pages it clears.
func leastGrowth(t *testing.T) int {
	least := 2 * headroom
	for range 5 {
		debug.FreeOSMemory()
		before := residentBytes(t)
		s := Settle(fstest.MapFS{}, func(string) string { return "" })
		least = min(least, residentBytes(t)-before)
		s.Release()
	}
	return least
}
