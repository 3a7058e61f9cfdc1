// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration

package aws

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

// pythons are the interpreters that have boto3, by its version: an old one, as Debian
// has it, and a new one, which sends checksums behind bodies, where there are both.
func pythons(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, p := range []string{"/usr/bin/python3", look("python3"), sibling(look("moto_server"), "python3")} {
		if p == "" {
			continue
		}
		out, err := exec.Command(p, "-c", "import boto3; print(boto3.__version__)").Output()
		if err == nil {
			found[strings.TrimSpace(string(out))] = p
		}
	}
	if len(found) == 0 {
		t.Skip("no Python has boto3: install python3-boto3")
	}
	return found
}

// look finds a program where the tests were started.
func look(name string) string {
	for _, dir := range filepath.SplitList(os.Getenv(pathVar)) {
		p := filepath.Join(dir, name)
		if info, err := os.Stat(p); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return shim(p)
		}
	}
	return ""
}

// shim resolves what pyenv puts before a program, which needs the user's home.
func shim(p string) string {
	if filepath.Base(filepath.Dir(p)) != "shims" {
		return p
	}
	root := filepath.Dir(filepath.Dir(p))
	found, _ := filepath.Glob(filepath.Join(root, "versions", "*", "bin", filepath.Base(p)))
	for _, f := range found {
		if filepath.Base(p) != "python3" {
			return f
		}
	}
	return ""
}

func sibling(p, name string) string {
	if p == "" {
		return ""
	}
	return filepath.Join(filepath.Dir(p), name)
}

// placeholders are all that an application has.
func placeholders() []string {
	return []string{"AWS_ACCESS_KEY_ID=egret-placeholder", "AWS_SECRET_ACCESS_KEY=egret-placeholder", "AWS_DEFAULT_REGION=" + region, "AWS_EC2_METADATA_DISABLED=true"}
}

// run runs a client through egret.
func (e *egret) run(t *testing.T, limit time.Duration, argv ...string) (code int, out string) {
	t.Helper()
	return runProgram(t, limit, append(placeholders(), "HTTPS_PROXY=http://"+e.proxy(), "AWS_CA_BUNDLE="+e.world.file("ca/ca.pem")), argv...)
}

func runProgram(t *testing.T, limit time.Duration, env []string, argv ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &out, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("%s: %v", strings.Join(argv, " "), err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s: no end after %s\n%s", strings.Join(argv, " "), limit, out.String())
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// client makes requests through egret, unsigned but for what the test puts in.
func (e *egret) client(t *testing.T) *http.Client {
	t.Helper()
	text, err := os.ReadFile(e.world.file("ca/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	tr := &http.Transport{
		Proxy:           http.ProxyURL(&url.URL{Scheme: "http", Host: e.proxy()}),
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 5 * time.Minute}
}
