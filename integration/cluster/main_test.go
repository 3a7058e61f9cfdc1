// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// prefix is that of folders and cgroups, so that what is left behind can be found.
const prefix = "egret-cluster-"

func TestMain(m *testing.M) {
	if stage := os.Getenv(stageVar); stage != "" {
		runtime.LockOSThread()
		fmt.Fprintln(os.Stderr, "node:", firstProcess(stage))
		os.Exit(1)
	}
	cleanEnvironment()
	sweep()
	code := m.Run()
	if left := leftovers(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left after the tests:", left)
		code = 1
	}
	os.Exit(code)
}

// sweep removes what runs have left that were killed: their processes and mounts have ended
// with them.
func sweep() {
	for _, at := range []string{"/sys/fs/cgroup/*/", os.TempDir() + "/"} {
		found, _ := filepath.Glob(at + prefix + "*")
		for _, name := range found {
			pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(name), prefix), "-")
			if _, err := os.Stat("/proc/" + pid); err == nil || pid == "" {
				continue
			}
			if at == os.TempDir()+"/" {
				_ = os.RemoveAll(name)
			} else {
				_ = removeGroup(name)
			}
		}
	}
}

// leftovers are mounts, cgroups and processes of this run.
func leftovers() []string {
	own := fmt.Sprintf("%s%d", prefix, os.Getpid())
	var left []string
	for _, at := range []string{"/sys/fs/cgroup/*/", os.TempDir() + "/"} {
		found, _ := filepath.Glob(at + own + "*")
		left = append(left, found...)
	}
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(mounts), own) {
		left = append(left, "mounts")
	}
	groups, _ := filepath.Glob("/proc/[0-9]*/cgroup")
	for _, name := range groups {
		if text, err := os.ReadFile(name); err == nil && strings.Contains(string(text), own) {
			left = append(left, name)
		}
	}
	return left
}

// cleanEnvironment takes away every setting about proxies and trust that this machine has.
func cleanEnvironment() {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, word := range []string{"PROXY", "CERT", "SSL", "_CA", "TOKEN", "KUBE"} {
			if strings.Contains(strings.ToUpper(name), word) && !strings.HasPrefix(name, "GO") {
				_ = os.Unsetenv(name)
			}
		}
	}
}
