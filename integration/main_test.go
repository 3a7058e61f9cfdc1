// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Where the programs are, for tests and for what they start. TestMain sets them.
const (
	egretVar    = "INTEGRATION_EGRET"     // the program under test
	goclientVar = "INTEGRATION_GOCLIENT"  // clients in Go
	cacheVar    = "INTEGRATION_CACHE"     // what integration/run has installed: bin/, node/node_modules
	updateName  = "update"                // flag: write docs/clients.md
	defaultKeep = "../.cache/integration" // of cacheVar
)

func TestMain(m *testing.M) {
	flag.Bool(updateName, false, "write docs/clients.md from what works")
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "egret-integration-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	for name, pkg := range map[string]string{egretVar: "../cmd/egret", goclientVar: "./goclient"} {
		path := filepath.Join(dir, strings.ToLower(filepath.Base(pkg)))
		build := exec.Command("go", "build", "-o", path, pkg)
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n", pkg, err)
			return 1
		}
		_ = os.Setenv(name, path)
	}
	cleanEnvironment(filepath.Join(dir, "home"))
	code := m.Run()
	if left := running(dir); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "still running after the tests:", left)
		return 1
	}
	return code
}

// running lists the processes whose program is under a folder.
func running(dir string) []string {
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	var left []string
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir) {
			left = append(left, link+" -> "+path)
		}
	}
	return left
}

// cleanEnvironment takes away every setting about proxies and trust that this machine
// has, and the settings in the user's home: what egret exec sets is to be all there is.
func cleanEnvironment(home string) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		upper := strings.ToUpper(name)
		for _, word := range []string{"PROXY", "CERT", "SSL", "_CA", "TOKEN", "JAVA_", "NODE_", "NPM_", "PHP", "RUBY", "PYTHON", "GIT_", "GH_", "AWS_", "WGETRC", "XDG_"} {
			if strings.Contains(upper, word) && !strings.HasPrefix(upper, "INTEGRATION_") {
				_ = os.Unsetenv(name)
			}
		}
	}
	_ = os.MkdirAll(home, 0o700)
	_ = os.Setenv("HOME", home)
	_ = os.Setenv("GIT_TERMINAL_PROMPT", "0")
	if os.Getenv(cacheVar) == "" {
		keep, _ := filepath.Abs(defaultKeep)
		_ = os.Setenv(cacheVar, keep)
	}
	_ = os.Setenv("PATH", filepath.Join(os.Getenv(cacheVar), "bin")+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}
