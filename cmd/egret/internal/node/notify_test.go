// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/identity/embedded"
)

// systemd receives notifications, as its manager does.
func systemd(t *testing.T, dir string) <-chan string {
	t.Helper()
	path := filepath.Join(dir, "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	check(t, err)
	t.Setenv("NOTIFY_SOCKET", path)
	out, done := make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			out <- string(buf[:n])
		}
	}()
	t.Cleanup(func() {
		check(t, c.Close())
		<-done
	})
	return out
}

func told(t *testing.T, from <-chan string, want string) string {
	t.Helper()
	for {
		select {
		case got := <-from:
			if strings.Contains(got, want) {
				return got
			}
			if !strings.HasPrefix(got, "WATCHDOG=1") && !strings.HasPrefix(got, "STATUS=") {
				t.Fatalf("systemd is told %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("systemd is not told %q", want)
		}
	}
}

// TestSystemdIsToldTheTruth: not ready before there is an identity, whatever is reloaded
// meanwhile; then ready, reloading, ready, stopping.
func TestSystemdIsToldTheTruth(t *testing.T) {
	w := newWorld(t, embedded.Options{})
	w.StopIdentity()
	from := systemd(t, w.Dir)
	e := start(t, w, func(o *Options) { o.Service = true })
	_, err := e.Reload()
	check(t, err)
	told(t, from, "STATUS=waiting for the SPIFFE Workload API")
	check(t, w.ServeIdentity())
	if got := told(t, from, "READY=1"); !strings.Contains(got, "STATUS=policy "+e.reload.now().bundle.Digest) {
		t.Errorf("%q", got)
	}
	_, err = e.Reload()
	check(t, err)
	if got := told(t, from, "RELOADING=1"); !strings.Contains(got, "\nMONOTONIC_USEC=") {
		t.Errorf("%q", got)
	}
	told(t, from, "READY=1")
	edit(t, w, "policy/teams/qa/access.yaml", "workload: nightly-dashboard", "workload: nobody")
	told(t, from, "RELOADING=1")
	if got := told(t, from, "READY=1"); !strings.Contains(got, "the last reload failed") {
		t.Errorf("%q", got)
	}
	check(t, e.Stop())
	told(t, from, "STOPPING=1")
}

func TestSystemdWatchdogIsFed(t *testing.T) {
	w := newWorld(t, embedded.Options{})
	from := systemd(t, w.Dir)
	t.Setenv("WATCHDOG_USEC", "100000")
	start(t, w, func(o *Options) { o.Service = true })
	told(t, from, "READY=1")
	for range 3 {
		told(t, from, "WATCHDOG=1")
	}
}

// TestOnlyTheServiceNotifies: an egret inside egret exec is not the unit's main process.
func TestOnlyTheServiceNotifies(t *testing.T) {
	w := newWorld(t, embedded.Options{})
	from := systemd(t, w.Dir)
	e := start(t, w).ready()
	_, err := e.Reload()
	check(t, err)
	check(t, e.Stop())
	select {
	case got := <-from:
		t.Errorf("systemd is told %q", got)
	default:
	}
}
