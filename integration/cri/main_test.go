// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where the programs are; TestMain builds those that are not set.
const (
	egretVar    = "INTEGRATION_EGRET"
	workloadVar = "INTEGRATION_CRI_WORKLOAD"
)

// prefix is that of every folder and cgroup, so that what is left behind can be found.
func prefix() string { return fmt.Sprintf("egret-cri-%d-", os.Getpid()) }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", prefix())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Chmod(dir, 0o755) // another user runs what is in it
	for name, pkg := range map[string]string{egretVar: "../../cmd/egret", workloadVar: "./workload"} {
		if os.Getenv(name) != "" { // it is there already
			continue
		}
		path := filepath.Join(dir, filepath.Base(pkg))
		build := exec.Command("go", "build", "-o", path, pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // there is no libc in a pod
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n", pkg, err)
			return 1
		}
		_ = os.Setenv(name, path)
	}
	before := leftovers(dir)
	code := m.Run()
	if left := leftovers(dir); len(left) > len(before) {
		fmt.Fprintln(os.Stderr, "left after the tests:", left)
		return 1
	}
	return code
}

// leftovers are namespaces, cgroups, mounts, sockets of shims and processes, of these tests
// or such as these tests might leave.
func leftovers(dir string) []string {
	var left []string
	for _, at := range []string{
		"/run/netns/cni-*", "/run/containerd/s/*", "/sys/fs/cgroup/*/" + prefix() + "*", os.TempDir() + "/" + prefix() + "*/run*",
		"/var/lib/cni/*/*",
	} {
		found, _ := filepath.Glob(at)
		left = append(left, found...)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, prefix()) {
			left = append(left, line)
		}
	}
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		command, _ := os.ReadFile(filepath.Dir(link) + "/cmdline")
		path, _ := os.Readlink(link)
		if strings.HasPrefix(path, dir) || strings.Contains(string(command), prefix()) && filepath.Dir(link) != fmt.Sprintf("/proc/%d", os.Getpid()) {
			left = append(left, link+" -> "+path)
		}
	}
	return left
}
