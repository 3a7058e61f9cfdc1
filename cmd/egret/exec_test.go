// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/certs"
)

// startedProxy is a start that listens nowhere; it counts its ends.
func startedProxy(t *testing.T, stopped *int) startProxy {
	issuer, err := certs.NewEphemeralIssuer(certs.EphemeralOptions{Hosts: []string{"slack.com"}})
	if err != nil {
		t.Fatal(err)
	}
	return func(context.Context) (string, []byte, func(), error) {
		return "http://127.0.0.1:8630", issuer.BundlePEM(), func() { *stopped++ }, nil
	}
}

// quietHome gives the test its own temporary folder and an environment without notes.
func quietHome(t *testing.T) string {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if upper := strings.ToUpper(name); strings.Contains(upper, "PROXY") || strings.Contains(upper, "CERT") || strings.Contains(upper, "_CA") {
			t.Setenv(name, "") // restored at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestExecGivesEnvironmentAndCleansUp(t *testing.T) {
	tmp, stopped := quietHome(t), 0
	out, errs, err := runVerb(t, newExecCommand(startedProxy(t, &stopped)), "--no-proxy", "*.acme.example", "--",
		"sh", "-c", `echo "$HTTPS_PROXY $NO_PROXY"; grep -c BEGIN "$NODE_EXTRA_CA_CERTS"; ls "$(dirname "$SSL_CERT_FILE")"`)
	if err != nil {
		t.Fatal(err, errs)
	}
	want := "http://127.0.0.1:8630 localhost,127.0.0.1,::1,acme.example,.acme.example\n1\nbundle.pem\nca.pem\nphp.ini\ntrust.p12\nwgetrc\n"
	if out != want || errs != "" {
		t.Errorf("out\n%s\nwant\n%s\nstderr %q", out, want, errs)
	}
	if left, _ := os.ReadDir(tmp); len(left) != 0 || stopped != 1 {
		t.Errorf("left behind: %v; the proxy was stopped %d times", left, stopped)
	}
}

func TestExecExitCode(t *testing.T) {
	tmp := quietHome(t)
	tests := []struct {
		name  string
		args  []string
		want  int // 0 is no error
		wantE string
	}{
		{"ok", []string{"true"}, 0, ""},
		{"without --", []string{"sh", "-c", "exit 3"}, 3, ""},
		{"with --", []string{"--", "sh", "-c", "exit 4"}, 4, ""},
		{"signal", []string{"sh", "-c", "kill -KILL $$"}, 137, ""},
		{"not found", []string{"egret-no-such-program"}, 127, "egret exec: run \"egret-no-such-program\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stopped := 0
			_, errs, err := runVerb(t, newExecCommand(startedProxy(t, &stopped)), tt.args...)
			var exit interface{ ExitCode() int }
			got := 0
			if errors.As(err, &exit) {
				got = exit.ExitCode()
			}
			if got != tt.want || (err != nil) != (tt.want != 0) || !strings.HasPrefix(errs, tt.wantE) {
				t.Errorf("exit %d (%v), stderr %q", got, err, errs)
			}
			if left, _ := os.ReadDir(tmp); len(left) != 0 || stopped != 1 {
				t.Errorf("left behind: %v; stopped %d times", left, stopped)
			}
		})
	}
}

func TestExecAttaches(t *testing.T) {
	quietHome(t)
	ca := filepath.Join(t.TempDir(), "ca")
	mustCA(t, "init", "--domains", "slack.com", "--out", ca)
	pem := filepath.Join(ca, "ca.pem")
	out, _, err := runVerb(t, newExecCommand(nil), "--proxy", "http://127.0.0.1:1234", "--ca", pem, "sh", "-c", `echo "$https_proxy"`)
	if err != nil || out != "http://127.0.0.1:1234\n" {
		t.Errorf("got %q, %v", out, err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no proxy at all", []string{"true"}, "--proxy and --ca"},
		{"no CA", []string{"--proxy", "http://h:1", "true"}, "--proxy and --ca go together"},
		{"no proxy", []string{"--ca", pem, "true"}, "--proxy and --ca go together"},
		{"missing CA", []string{"--proxy", "http://h:1", "--ca", "/nonexistent", "true"}, "/nonexistent"},
		{"odd proxy", []string{"--proxy", "socks5://h:1", "--ca", pem, "true"}, "not of the form"},
		{"odd direct host", []string{"--proxy", "http://h:1", "--ca", pem, "--no-proxy", "*", "true"}, "--no-proxy:"},
		{"no command", []string{"--proxy", "http://h:1", "--ca", pem}, "name the program to run"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := runVerb(t, newExecCommand(nil), tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestExecNotes(t *testing.T) {
	quietHome(t)
	t.Setenv("NO_PROXY", "git.acme.example")
	t.Setenv("FTP_PROXY", "http://u:hunter2@corp:3128")
	t.Setenv("PIP_CERT", "/nonexistent")
	stopped := 0
	_, errs, err := runVerb(t, newExecCommand(startedProxy(t, &stopped)), "true")
	if err != nil || strings.Contains(errs, "hunter2") {
		t.Fatal(err, errs)
	}
	for _, want := range []string{"FTP_PROXY was taken out", "NO_PROXY was replaced", "read from the files of PIP_CERT"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr has no %q:\n%s", want, errs)
		}
	}
	if _, errs, err = runVerb(t, newExecCommand(startedProxy(t, &stopped)), "--quiet", "true"); err != nil || errs != "" {
		t.Errorf("--quiet: %v, %q", err, errs)
	}
}

// Ctrl-C ends a start that takes long. That it does not end what has been started is
// shown by testdata/script/exec_signal.txtar.
func TestExecStartEndsWithItsContext(t *testing.T) {
	quietHome(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	cmd := newExecCommand(func(ctx context.Context) (string, []byte, func(), error) { return "", nil, nil, ctx.Err() })
	cmd.SetArgs([]string{"true"})
	if err := cmd.ExecuteContext(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
