// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fresh makes a namespace without a name, which ends with its last descriptor. It skips
// where that is not allowed.
func fresh(t *testing.T) *NS {
	t.Helper()
	made := make(chan *NS)
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends in its namespace
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		n, err := Open("/proc/thread-self/ns/net")
		if err != nil {
			failed <- err
			return
		}
		made <- n
	}()
	select {
	case n := <-made:
		t.Cleanup(func() { _ = n.Close() })
		return n
	case err := <-failed:
		t.Skipf("network namespaces cannot be made here: %v", err)
	}
	return nil
}

func TestSocketsStayWhereTheyWereOpened(t *testing.T) {
	n := fresh(t)
	if err := n.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		req, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	}); err != nil {
		t.Fatal(err)
	}
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = c.Close()
		t.Error("it is reached from outside")
	}
	c, err := n.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if _, err := n.Dial(t.Context(), "tcp", "localhost:1"); err == nil || !strings.Contains(err.Error(), "must be ip:port") {
		t.Errorf("a name: %v", err)
	}
}

func TestIDTellsNamespacesApart(t *testing.T) {
	n := fresh(t)
	id, err := n.ID()
	if err != nil {
		t.Fatal(err)
	}
	home, err := Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	if own, err := home.ID(); err != nil || own == id {
		t.Errorf("both are %d, %v", id, err)
	}
	want := errors.New("told")
	if err := n.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}

func TestOpenRefusesOtherFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, "/proc/self/ns/mnt", "/dev/null"} {
		if _, err := Open(path); err == nil {
			t.Errorf("%s was opened", path)
		}
	}
	if _, err := Open("/run/netns/no-such-namespace"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
