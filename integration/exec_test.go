// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// result is what a program did.
type result struct {
	code           int
	stdout, stderr string
}

func (r result) all() string { return r.stdout + "\n" + r.stderr }

// command is a program to run in a folder of its own.
type command struct {
	argv []string
	env  []string // besides the environment
	in   string
}

// runProgram runs a program for at most a minute; what it has started ends with it.
func runProgram(t *testing.T, c command) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.argv[0], c.argv[1:]...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Dir = &out, &errs, t.TempDir()
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = strings.NewReader(c.in)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", strings.Join(c.argv, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s: no end after a minute\n%s%s", strings.Join(c.argv, " "), out.String(), errs.String())
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// exec runs a program under egret exec, attached to a listener of this egret.
func (e *egret) exec(t *testing.T, listener string, c command) result {
	t.Helper()
	scheme := "http://"
	address := e.Address(listener)
	if listener == "mesh" {
		scheme, address = "https://", strings.Replace(address, "127.0.0.1", "localhost", 1)
	}
	c.argv = append([]string{os.Getenv(egretVar), "exec", "--proxy", scheme + address, "--ca", e.world.file("ca/ca.pem"), "--"}, c.argv...)
	return runProgram(t, c)
}

// command fills a client's words in.
func (c client) command(t *testing.T, target string, before ...string) command {
	t.Helper()
	argv := before
	for _, word := range c.argv {
		word = strings.ReplaceAll(word, "{}", target)
		word = strings.ReplaceAll(word, "{dir}", clientDir(t))
		argv = append(argv, strings.ReplaceAll(word, "{go}", os.Getenv(goclientVar)))
	}
	var env []string
	if c.placehold != "" {
		env = append(env, c.placehold+"=egret-placeholder")
	}
	return command{argv: argv, env: env}
}

// clientDir is a folder with the scripts beside the libraries of Node.
func clientDir(t *testing.T) string {
	t.Helper()
	home := filepath.Join(os.Getenv("HOME"), "clients")
	if _, err := os.Stat(home); err == nil {
		return home
	}
	if err := os.CopyFS(home, os.DirFS("testdata/clients")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(os.Getenv(cacheVar), "node", "node_modules"), filepath.Join(home, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return home
}
