// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where the programs are; TestMain sets them.
const (
	egretVar    = "INTEGRATION_EGRET"
	goclientVar = "INTEGRATION_GOCLIENT"
	cacheVar    = "INTEGRATION_CACHE"
)

// prefix is that of every namespace, so that what is left behind can be found.
func prefix() string { return fmt.Sprintf("egret-redirect-%d-", os.Getpid()) }

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "egret-redirect-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	_ = os.Chmod(dir, 0o755) // egret's own user runs it
	for name, pkg := range map[string]string{egretVar: "../../cmd/egret", goclientVar: "../goclient"} {
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

// leftovers are namespaces and processes of these tests.
func leftovers(dir string) []string {
	left, _ := filepath.Glob("/run/netns/" + prefix() + "*")
	etc, _ := filepath.Glob("/etc/netns/" + prefix() + "*")
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir) {
			etc = append(etc, link+" -> "+path)
		}
	}
	return append(left, etc...)
}

// cleanEnvironment takes away every setting about proxies and trust that this machine has.
func cleanEnvironment() {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, word := range []string{"PROXY", "CERT", "SSL", "_CA", "TOKEN", "JAVA_", "NODE_", "NPM_", "RUBY", "PYTHON"} {
			if strings.Contains(strings.ToUpper(name), word) && !strings.HasPrefix(name, "INTEGRATION_") {
				_ = os.Unsetenv(name)
			}
		}
	}
	if os.Getenv(cacheVar) == "" {
		keep, _ := filepath.Abs("../../.cache/integration")
		_ = os.Setenv(cacheVar, keep)
	}
	_ = os.Setenv("PATH", filepath.Join(os.Getenv(cacheVar), "bin")+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}
