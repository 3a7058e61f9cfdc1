// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestHostNetworkFrom plays the facts of /proc with ordinary files: the same file
// under two names has the same inode.
func TestHostNetworkFrom(t *testing.T) {
	const own, backlog, somaxconn = "self/ns/net", "sys/net/core/netdev_max_backlog", "sys/net/core/somaxconn"
	tests := []struct {
		name  string
		files []string
		want  bool
	}{
		{"no /proc at all", nil, true},
		{"nothing but our own namespace", []string{own}, true},
		{"a namespace of our own", []string{own, somaxconn}, false},
		{"the initial namespace", []string{own, somaxconn, backlog}, true},
		{"a container's process 1 proves nothing", []string{own, somaxconn, backlog, "1/ns/net", "1/ns/pid"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			for _, f := range tt.files {
				put(t, proc, f, "", 0o600)
			}
			if got := hostNetworkFrom(proc); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestInHostNetworkAgreesWithTheKernel compares the two ways where both are there.
func TestInHostNetworkAgreesWithTheKernel(t *testing.T) {
	own, ok := inode("/proc/self/ns/net")
	if !ok || !exists("/proc/sys/net/core/somaxconn") {
		t.Skip("no /proc here")
	}
	pid, _ := inode("/proc/self/ns/pid")
	if own < 0xF0000000 && own != initialNetNamespace || pid == 0 {
		t.Errorf("unexpected inodes: net %#x pid %#x", own, pid)
	}
	if got, want := inHostNetwork(), exists("/proc/sys/net/core/netdev_max_backlog"); own == initialNetNamespace && got != want {
		t.Errorf("inHostNetwork is %v, the kernel's settings say %v", got, want)
	}
	if _, err := os.Stat(filepath.Join("/proc", "self", "ns", "net")); err != nil {
		t.Error(err)
	}
}
