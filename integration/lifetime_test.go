// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// egret exec without a running egret starts one for the program's life.
func TestExecStarts(t *testing.T) {
	w := newWorld(t)
	argv := []string{os.Getenv(egretVar), "exec", "--policy", w.file("policy.yaml"), "--as", idPrefix + "app", "--audit", w.file("exec.jsonl"), "--"}
	env := []string{"TMPDIR=" + t.TempDir()}
	got := runProgram(t, command{argv: append(argv, "curl", "-sSi", restGood), env: env})
	if got.code != 0 || !strings.Contains(got.stdout, `"WEB"`) {
		t.Errorf("exit %d\n%s", got.code, got.all())
	}
	if list := w.arrivals.take(); len(list) != 1 || !list[0].Ours {
		t.Errorf("arrived: %+v", list)
	}
	got = runProgram(t, command{argv: append(argv, "curl", "-sSi", restBad), env: env})
	if !strings.Contains(got.stdout, "policy; reason=path_not_allowed") || len(w.arrivals.take()) != 0 {
		t.Errorf("not refused\n%s", got.all())
	}
	if text, err := os.ReadFile(w.file("exec.jsonl")); err != nil || strings.Count(string(text), "\n") != 2 {
		t.Errorf("records: %v\n%s", err, text)
	}
	if left, _ := os.ReadDir(strings.TrimPrefix(env[0], "TMPDIR=")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What a machine sets about proxies and trust, as many build machines do, does not lead
// a program away from egret, and what it trusted it still trusts.
func TestExecOnMachineWithSettings(t *testing.T) {
	e := newWorld(t).start(t, "")
	const bundle = "/etc/ssl/certs/ca-certificates.crt"
	env := []string{"HTTPS_PROXY=http://127.0.0.1:9", "https_proxy=http://127.0.0.1:9", "ALL_PROXY=http://127.0.0.1:9", "NO_PROXY=*", "no_proxy=*", "SSL_CERT_DIR=/etc/ssl/certs"}
	for _, name := range []string{"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO", "PIP_CERT", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"} {
		env = append(env, name+"="+bundle)
	}
	for _, c := range clients() {
		switch c.name {
		case "curl, HTTP/2", "git clone", "Python requests", "Python boto3", "Node axios", "Go net/http", "grpcio (C core), unary", "Java HttpClient, HTTP/2":
		default:
			continue
		}
		c = c.withDefaults()
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			e.quiet(t)
			cmd := c.command(t, c.good)
			cmd.env = append(cmd.env, env...)
			e.injected(t, c, e.exec(t, "sidecar", cmd))
		})
	}
}

// egret exec ends as its program does.
func TestExecExitCode(t *testing.T) {
	e := newWorld(t).start(t, "")
	for script, want := range map[string]int{"exit 0": 0, "exit 42": 42, "kill -KILL $$": 137, "kill -TERM $$": 143} {
		if got := e.exec(t, "sidecar", command{argv: []string{"sh", "-c", script}}); got.code != want {
			t.Errorf("%s: exit %d, want %d", script, got.code, want)
		}
	}
	if got := e.exec(t, "sidecar", command{argv: []string{"egret-no-such-program"}}); got.code != 127 {
		t.Errorf("a program that is not there: exit %d, want 127", got.code)
	}
	got := e.exec(t, "sidecar", command{argv: []string{"curl", "-sS", "--fail", restBad}})
	if got.code != 22 {
		t.Errorf("curl --fail of a refused call: exit %d, want curl's 22", got.code)
	}
}

// SIGTERM lets a download finish, takes no new connection, and then egret ends.
func TestDrain(t *testing.T) {
	e := newWorld(t).start(t, "")
	const size = 24 << 20
	out := filepath.Join(t.TempDir(), "download")
	cmd := exec.Command(os.Getenv(egretVar), "exec", "-q", "--proxy", "http://"+e.Address("sidecar"), "--ca", e.world.file("ca/ca.pem"), "--",
		"curl", "-sSf", "--limit-rate", "8M", "-o", out, "https://echo.egret.test/bytes/25165824")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	started := func() bool { info, err := os.Stat(out); return err == nil && info.Size() > 0 }
	end := time.Now().Add(20 * time.Second)
	for !started() && time.Now().Before(end) {
		time.Sleep(10 * time.Millisecond)
	}
	if !started() {
		t.Error("the download did not start")
	}
	e.Terminate()
	e.closesItsDoor(t)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the download was cut: %v", err)
	}
	if info, err := os.Stat(out); err != nil || info.Size() != size {
		t.Errorf("downloaded %v, %v; want %d bytes", info, err, size)
	}
	select {
	case <-e.Done():
	case <-time.After(10 * time.Second):
		t.Error("egret does not end although nothing is in flight")
	}
	if !strings.Contains(e.Log(), `"msg":"drained","cut":0`) {
		t.Errorf("egret's log does not say that nothing was cut:\n%s", e.Log())
	}
}

// closesItsDoor waits until the listener takes nobody any more.
func (e *egret) closesItsDoor(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", e.Address("sidecar"))
		if err != nil {
			return
		}
		_ = c.Close()
	}
	t.Error("egret takes new connections while it drains")
}
