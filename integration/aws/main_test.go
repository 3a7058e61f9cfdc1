// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/egret-proxy/egret/integration/internal/testbed"
)

// What TestMain leaves to the tests.
const (
	egretVar  = "INTEGRATION_EGRET"     // the program under test
	vgwVar    = "INTEGRATION_VERSITYGW" // the S3 server
	pathVar   = "INTEGRATION_PATH"      // where programs were looked for at first
	insideVar = "INTEGRATION_INSIDE"    // set in the namespace
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(insideVar) != "" {
		if err := enterNamespace(); err != nil {
			fmt.Fprintln(os.Stderr, "namespace:", err)
			return 1
		}
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "egret-aws-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return inside(dir)
}

// build makes the programs, while there is still a network to download modules from.
func build(dir string) error {
	egret := filepath.Join(dir, "egret")
	if err := testbed.BuildEgret(egret); err != nil {
		return err
	}
	if os.Getenv(vgwVar) == "" {
		cmd := exec.Command("../build/versitygw.sh")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("build versitygw: %w", err)
		}
		_ = os.Setenv(vgwVar, filepath.Join(strings.TrimSpace(string(out)), "versitygw"))
	}
	return os.Setenv(egretVar, egret)
}

// inside runs this program again in new namespaces for network and mounts.
func inside(dir string) int {
	_ = os.Setenv(pathVar, os.Getenv("PATH"))
	cleanEnvironment(filepath.Join(dir, "home"))
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideVar+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "run in namespaces of its own (needs root):", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// Names of the namespace, and an address that versitygw takes for a public one.
const (
	publicAddress = "203.0.113.10" // TEST-NET-3 (RFC 5737)
	oidcHost      = "oidc.acme.test"
)

// enterNamespace sets up what is in the new namespaces: the loopback and the one name.
func enterNamespace() error {
	hosts := filepath.Join(os.Getenv(insideVar), "hosts")
	if err := os.WriteFile(hosts, []byte("127.0.0.1 localhost "+storeHost+" "+stsHost+"\n"+publicAddress+" "+oidcHost+"\n"), 0o600); err != nil {
		return err
	}
	for _, argv := range [][]string{
		{"mount", "--make-rprivate", "/"},
		{"mount", "--bind", hosts, "/etc/hosts"},
		{"ip", "link", "set", "lo", "up"},
		{"ip", "address", "add", publicAddress + "/32", "dev", "lo"},
	} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	return nil
}

// cleanEnvironment takes away every setting about proxies, trust and AWS that this
// machine has.
func cleanEnvironment(home string) {
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, word := range []string{"PROXY", "CERT", "SSL", "_CA", "TOKEN", "PYTHON", "AWS_", "XDG_", "BOTO"} {
			if strings.Contains(strings.ToUpper(name), word) && !strings.HasPrefix(name, "INTEGRATION_") {
				_ = os.Unsetenv(name)
			}
		}
	}
	_ = os.MkdirAll(home, 0o700)
	_ = os.Setenv("HOME", home)
}
