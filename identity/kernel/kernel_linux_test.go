// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// stay makes a copy of the test binary a process that stays until its input ends.
const stay = "EGRET_TEST_STAY"

func TestMain(m *testing.M) {
	if os.Getenv(stay) != "" {
		fmt.Println("here")
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	goleak.VerifyTestMain(m)
}

// child is another process, which ends when asked to.
type child struct {
	pid int
	end func()
}

func start(t *testing.T, attr *syscall.SysProcAttr) child {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir, cmd.Env, cmd.SysProcAttr = "/", []string{stay + "=1"}, attr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("here\n"))); err != nil {
		t.Fatal(err)
	}
	c := child{cmd.Process.Pid, func() { _ = in.Close(); _ = cmd.Wait() }}
	t.Cleanup(c.end)
	return c
}

func open(t *testing.T, pid int) *Process {
	t.Helper()
	p, err := Open(pid)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestProcess(t *testing.T) {
	p := open(t, os.Getpid())
	f, err := p.Facts()
	if err != nil || f.PID != os.Getpid() || f.UID != uint32(os.Geteuid()) || f.GID != uint32(os.Getegid()) || f.Start == 0 {
		t.Fatalf("facts = %+v, %v", f, err)
	}
	if again, err := p.Facts(); err != nil || again != f {
		t.Errorf("facts changed: %+v and %+v, %v", f, again, err)
	}
	old, err := p.status()
	old.Start = f.Start
	if err != nil || old != f {
		t.Errorf("by /proc: %+v, %v; by pidfd: %+v", old, err, f)
	}
	exe, err := p.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if name, _ := os.Executable(); exe.Path != name {
		t.Errorf("program = %q, want %q", exe.Path, name)
	}
	if here, err := Stat(exe.Path); err != nil || here != exe {
		t.Errorf("its file = %+v, %v; want %+v", here, err, exe)
	}
	if sum, err := p.SHA256(); err != nil || len(sum) != 64 {
		t.Errorf("digest = %q, %v", sum, err)
	}
	if all, err := p.Hierarchies(); err != nil || !strings.Contains(all, ":") {
		t.Errorf("hierarchies = %q, %v", all, err)
	}
}

func TestFactsOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	c := start(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 4711, Gid: 4712}})
	p := open(t, c.pid)
	f, err := p.Facts()
	if err != nil || f.UID != 4711 || f.GID != 4712 {
		t.Errorf("facts = %+v, %v", f, err)
	}
	if old, err := p.status(); err != nil || old.UID != 4711 || old.GID != 4712 {
		t.Errorf("by /proc: %+v, %v", old, err)
	}
}

// TestMUST_I6_PidfdOutlivesThePID: what is held is one process, and says so when it has
// ended, whoever has its PID now.
func TestMUST_I6_PidfdOutlivesThePID(t *testing.T) {
	c := start(t, nil)
	p := open(t, c.pid)
	fd := int(p.fd.Fd())
	_ = unix.SetNonblock(fd, true) // Fd has made it blocking
	adopted, err := Adopt(fd)
	if err != nil || adopted.PID() != c.pid {
		t.Fatalf("adopt: %v, %v", adopted, err)
	}
	defer adopted.Close()
	ended := make(chan error)
	go func() { ended <- adopted.Wait(context.Background()) }()
	if !p.Alive() || !adopted.Alive() {
		t.Error("a live process is taken for dead")
	}
	select {
	case err := <-ended:
		t.Fatalf("Wait returned while it lives: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	c.end()
	if err := <-ended; err != nil {
		t.Errorf("Wait = %v", err)
	}
	if p.Alive() || adopted.Alive() {
		t.Error("a dead process is taken for live")
	}
	if f, err := p.Facts(); !errors.Is(err, ErrGone) {
		t.Errorf("facts of a dead process = %+v, %v; want ErrGone", f, err)
	}
	if _, err := p.SHA256(); err == nil {
		t.Error("a dead process has a digest")
	}
	if _, err := Adopt(fd); !errors.Is(err, ErrGone) {
		t.Errorf("adopt a dead process: %v, want ErrGone", err)
	}
	if _, err := Open(c.pid); !errors.Is(err, ErrGone) {
		t.Errorf("open a dead process: %v, want ErrGone", err)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	p := open(t, os.Getpid())
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	p.Close()
	if err := p.Wait(t.Context()); !errors.Is(err, ErrGone) {
		t.Errorf("after Close: %v, want ErrGone", err)
	}
	if _, err := p.Facts(); !errors.Is(err, ErrGone) || p.Alive() {
		t.Errorf("after Close: %v, want ErrGone", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	for _, pid := range []int{0, -1} {
		if _, err := Open(pid); !errors.Is(err, ErrNotSeen) {
			t.Errorf("PID %d: %v, want ErrNotSeen", pid, err)
		}
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Adopt(int(f.Fd())); err == nil {
		t.Error("a file is adopted as a pidfd")
	}
	if _, err := Adopt(-1); err == nil {
		t.Error("-1 is adopted as a pidfd")
	}
}

// group makes a cgroup for the life of the test.
func group(t *testing.T, c *Cgroups, names ...string) (path string, id uint64) {
	t.Helper()
	dir := c.mount
	for _, name := range names {
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			t.Skipf("cannot make a cgroup: %v", err)
		}
		made := dir
		t.Cleanup(func() { _ = os.Remove(made) })
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(dir, c.mount), st.Ino
}

func cgroups(t *testing.T) *Cgroups {
	t.Helper()
	c, err := FindCgroups()
	if err != nil {
		t.Skip(err)
	}
	return c
}

func TestCgroups(t *testing.T) {
	c := cgroups(t)
	if path, err := c.Path(c.Root()); err != nil || path != "/" {
		t.Errorf("path of the top = %q, %v", path, err)
	}
	name := "egret-test-" + strconv.Itoa(os.Getpid())
	path, id := group(t, c, name, "inner (deleted)x")
	other, otherID := group(t, c, name+"-other")
	fd, err := unix.Open(c.mount+path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	p := start(t, &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd})

	// By the handle, and by a walk as without the right to open handles.
	for name, open := range map[string]func(uint64) (*os.File, error){"open": c.open, "walk": c.openWalked} {
		for want, id := range map[string]uint64{path: id, other: otherID} {
			dir, err := open(id)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if got, err := c.below(dir); err != nil || got != want {
				t.Errorf("%s: path = %q, %v; want %q", name, got, err, want)
			}
			_ = dir.Close()
		}
	}
	if pids, err := c.PIDs(id); err != nil || !slices.Equal(pids, []int{p.pid}) {
		t.Errorf("processes = %v, %v; want %d", pids, err, p.pid)
	}
	if pids, err := c.PIDs(otherID); err != nil || len(pids) != 0 {
		t.Errorf("processes of an empty group = %v, %v", pids, err)
	}
	held := open(t, p.pid)
	for name, ask := range map[string]func() (Facts, error){"facts": held.Facts, "status": held.status} {
		if f, err := ask(); err != nil || f.Cgroup != id {
			t.Errorf("%s: cgroup = %d, %v; want %d", name, f.Cgroup, err, id)
		}
	}

	p.end()
	if err := os.Remove(c.mount + path); err != nil {
		t.Fatal(err)
	}
	again, newID := group(t, c, strings.Split(path[1:], "/")...)
	if newID == id {
		t.Fatalf("the kernel gave id %d twice", id)
	}
	for name, open := range map[string]func(uint64) (*os.File, error){"open": c.open, "walk": c.openWalked} {
		if dir, err := open(id); !errors.Is(err, ErrGone) {
			t.Errorf("%s: a removed group is found: %v, %v (%q is another one now)", name, dir, err, again)
		}
	}
	if _, err := c.PIDs(1 << 60); !errors.Is(err, ErrGone) {
		t.Errorf("an id that nobody has: %v, want ErrGone", err)
	}
}

// TestMUST_I1_NamesOfGroups: what a user names in a group of their own is no evidence.
func TestMUST_I1_NamesOfGroups(t *testing.T) {
	c := cgroups(t)
	name := "egret-test-" + strconv.Itoa(os.Getpid()) + "-names"
	mine, _ := group(t, c, name)
	below, _ := group(t, c, name, "delegated", "kubepods")
	for path, want := range map[string]bool{"/": true, mine: true, below: true, mine + "/none": false, "": false, mine[1:]: false} {
		if got := c.RootsAlone(path); got != want {
			t.Errorf("%q: %v, want %v", path, got, want)
		}
	}
	if err := os.Chown(c.mount+mine+"/delegated", 4242, -1); err != nil {
		t.Skip(err)
	}
	if c.RootsAlone(below) {
		t.Error("a group below one that a user owns is taken for root's")
	}
}

// TestWalksAreBounded: ids that do not exist cannot keep us walking.
func TestWalksAreBounded(t *testing.T) {
	c := cgroups(t)
	_, _ = c.openWalked(1 << 61)
	c.wait = time.Now().Add(30 * time.Millisecond)
	begin := time.Now()
	_, _ = c.openWalked(1<<61 + 1)
	if took := time.Since(begin); took < 30*time.Millisecond {
		t.Errorf("the next walk came after %v", took)
	}
}

func TestMountOf(t *testing.T) {
	tests := []struct{ line, point, kind string }{
		{"35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw", "/sys/fs/cgroup", "cgroup2"},
		{`35 24 0:30 / /mnt/a\040b rw - cgroup2 none rw`, "/mnt/a b", "cgroup2"},
		{"35 24 0:30 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "/sys/fs/cgroup/cpu", "cgroup"},
		{"35 24 0:30 /", "", ""},
		{" - cgroup2", "", ""},
		{"", "", ""},
	}
	for _, tt := range tests {
		if point, kind := mountOf(tt.line); point != tt.point || kind != tt.kind {
			t.Errorf("%q: got %q, %q; want %q, %q", tt.line, point, kind, tt.point, tt.kind)
		}
	}
}

// FuzzStat: whatever a program calls itself, its start is the field that the kernel
// wrote.
func FuzzStat(f *testing.F) {
	f.Add("sh", uint64(1))
	f.Add("a) R 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 (x", uint64(77))
	f.Add(")", uint64(0))
	f.Add("", uint64(1<<63))
	f.Fuzz(func(t *testing.T, name string, start uint64) {
		line := fmt.Sprintf("12 (%s) S 1 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 %d 0 0", name, start)
		if got, err := startOf([]byte(line)); err != nil || got != start {
			t.Errorf("%q: got %d, %v; want %d", line, got, err, start)
		}
		_, _ = startOf([]byte(name))
	})
}

func FuzzStatus(f *testing.F) {
	f.Add("Name:\tsh\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n")
	f.Add("Name:\tUid:\t9\nUid:\t1\t2\n")
	f.Fuzz(func(t *testing.T, s string) {
		// A name is one line, in which the kernel writes \n for a line break.
		name := strings.ReplaceAll(s, "\n", `\n`)
		b := []byte("Name:\t" + name + "\nUid:\t1\t2\t3\t4\n")
		if id, err := effective(b, "Uid:"); err != nil || id != 2 {
			t.Errorf("%q: got %d, %v", b, id, err)
		}
		_, _ = effective([]byte(s), "Uid:")
	})
}
