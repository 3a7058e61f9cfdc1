// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

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
	goclientVar = "INTEGRATION_GOCLIENT"
)

// prefix is that of every namespace and cgroup, so that what is left behind can be found.
func prefix() string { return fmt.Sprintf("egret-steer-%d-", os.Getpid()) }

func TestMain(m *testing.M) {
	if os.Getenv(asLoad) != "" {
		os.Exit(load())
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "egret-steer-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Chmod(dir, 0o755) // other users run what is in it
	for name, pkg := range map[string]string{egretVar: "../../cmd/egret", goclientVar: "../goclient"} {
		if os.Getenv(name) != "" { // it is there already
			continue
		}
		path := filepath.Join(dir, filepath.Base(pkg))
		build := exec.Command("go", "build", "-o", path, pkg)
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n", pkg, err)
			return 1
		}
		_ = os.Setenv(name, path)
	}
	cleanEnvironment()
	code := m.Run()
	if left := leftovers(dir); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "left after the tests:", left)
		return 1
	}
	return code
}

// leftovers are namespaces, cgroups and processes of these tests.
func leftovers(dir string) []string {
	var left []string
	for _, at := range []string{"/run/netns/", "/etc/netns/", cgroupMount + "/"} {
		found, _ := filepath.Glob(at + prefix() + "*")
		left = append(left, found...)
	}
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir) {
			left = append(left, link+" -> "+path)
		}
	}
	return left
}

// cleanEnvironment takes away every setting about proxies and trust that this machine has.
func cleanEnvironment() {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, word := range []string{"PROXY", "CERT", "SSL", "_CA", "TOKEN", "NODE_", "PYTHON"} {
			if strings.Contains(strings.ToUpper(name), word) && !strings.HasPrefix(name, "INTEGRATION_") {
				_ = os.Unsetenv(name)
			}
		}
	}
	_ = os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}
