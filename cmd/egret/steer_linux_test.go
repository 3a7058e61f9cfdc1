// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/egret-proxy/egret/cmd/egret/internal/steering"
	"github.com/egret-proxy/egret/internal/ops"
)

func TestFolderHint(t *testing.T) {
	t.Parallel()
	denied := &net.OpError{Op: "listen", Net: "unixpacket", Err: os.NewSyscallError("bind", syscall.EACCES)}
	for _, err := range []error{denied, fmt.Errorf("socket: %w", &fs.PathError{Op: "mkdir", Path: "/x", Err: syscall.EACCES})} {
		if got := folderHint(err); !errors.Is(got, err) || !strings.Contains(got.Error(), "let root own the folders of --socket") {
			t.Errorf("%v", got)
		}
	}
	for _, err := range []error{syscall.EPERM, syscall.EADDRINUSE, errors.New("nft is not installed")} {
		if got := folderHint(err); got != err { //nolint:errorlint // the very same
			t.Errorf("%v", got)
		}
	}
}

func TestSteerError(t *testing.T) {
	t.Parallel()
	other := errors.New("other")
	for _, tc := range []struct{ err, want error }{
		{&ops.DialError{Socket: "/s", Err: syscall.ENOENT}, errors.New(`no egret steer answers on "/s": is it running? (systemctl status egret-steer)`)},
		{&ops.DialError{Socket: "/s", Err: syscall.ECONNREFUSED}, errors.New(`no egret steer answers on "/s": is it running? (systemctl status egret-steer)`)},
		{&ops.DialError{Socket: "/s", Err: syscall.EACCES}, errors.New(`the control socket "/s" may not be opened by this user: run as root`)},
		{other, other},
	} {
		if got := steerError(tc.err); got.Error() != tc.want.Error() {
			t.Errorf("%v", got)
		}
	}
}

func TestPrintSources(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 11, 22, 6, 0, 0, 0, time.UTC)
	for want, s := range map[string]steering.Source{
		"in step with containerd v2.2.0 since 2026-11-22T06:00:00Z, looked at on its events and every 5s": {State: "events", Runtime: "containerd v2.2.0", Every: 5},
		"in step with containerd 1.6.20 since 2026-11-22T06:00:00Z, looked at every 1s":                   {State: "polled", Runtime: "containerd 1.6.20", Every: 1},
		`away since 2026-11-22T06:00:00Z, what is captured stays so, new pods are not found: a\x1bb`:      {State: "away", Error: "a\x1bb"},
	} {
		s.Kind, s.Address, s.Since = "cri", "unix:///run/x", since
		var b bytes.Buffer
		if err := printSources(&b, []steering.Source{s}); err != nil || b.String() != "cri unix:///run/x: "+want+"\n" {
			t.Errorf("%v, %s", err, b.String())
		}
	}
}

// TestSourcesThatExclude: each pod would be found twice.
func TestSourcesThatExclude(t *testing.T) {
	t.Parallel()
	cmd := newSteerCommand()
	cmd.SetArgs([]string{"--namespaces", "/run/netns", "--cri", "unix:///run/containerd/containerd.sock"})
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "[cri namespaces]") {
		t.Errorf("%v", err)
	}
}

// TestSteerInAFolderOfAnother starts the program: it gives up what lets root write anywhere.
func TestSteerInAFolderOfAnother(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	dir := filepath.Join(t.TempDir(), "theirs")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	args := []string{"steer", "--user", "65534", "--control", "", "--socket", filepath.Join(dir, "steer.sock")}
	out, err := exec.CommandContext(ctx, "egret", args...).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("permission denied (egret steer gives up CAP_DAC_OVERRIDE")) {
		t.Errorf("%v, %s", err, out)
	}
}
