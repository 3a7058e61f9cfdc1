// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroups finds the groups of the v2 hierarchy by the id that sockets and processes
// carry. An id belongs to one directory and never to another, also after that is
// removed; a directory of v2 cannot be renamed. It is safe for concurrent use.
type Cgroups struct {
	mount  string
	root   uint64
	hybrid bool

	mu    sync.Mutex
	known map[uint64]string // what the last walk saw
	wait  time.Time         // no walk before
}

// maxKnown bounds what a walk remembers; a directory beyond it is found by the next.
const maxKnown = 1 << 16

// FindCgroups looks for the mount of cgroup v2. errors.ErrUnsupported where there is
// none: on a machine with cgroup v1 alone a socket carries no id of its creator.
func FindCgroups() (*Cgroups, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("find cgroup v2: %w", err)
	}
	defer func() { _ = f.Close() }()
	mount, v1 := "", false
	for s := bufio.NewScanner(f); s.Scan(); {
		point, kind := mountOf(s.Text())
		switch {
		case kind == "cgroup2" && mount == "":
			mount = point
		case kind == "cgroup":
			v1 = true
		}
	}
	if mount == "" {
		return nil, fmt.Errorf("%w: no cgroup v2 hierarchy is mounted, and with v1 alone the kernel does not say which cgroup a socket is of; boot with systemd.unified_cgroup_hierarchy=1, or mount cgroup2 at /sys/fs/cgroup/unified", errors.ErrUnsupported)
	}
	return openCgroups(mount, v1)
}

func openCgroups(mount string, hybrid bool) (*Cgroups, error) {
	var st unix.Stat_t
	if err := unix.Stat(mount, &st); err != nil {
		return nil, fmt.Errorf("cgroup v2 at %q: %w", mount, err)
	}
	return &Cgroups{mount: mount, root: st.Ino, hybrid: hybrid, known: make(map[uint64]string)}, nil
}

// mountOf reads the mount point and the kind of file system of a line of mountinfo
// (proc_pid_mountinfo(5)): the fifth field, and the one after the lone dash.
func mountOf(line string) (point, kind string) {
	before, after, found := strings.Cut(line, " - ")
	fields := strings.Fields(before)
	kind, _, _ = strings.Cut(after, " ")
	if !found || len(fields) < 5 {
		return "", ""
	}
	return unescape(fields[4]), kind
}

// unescape undoes \ooo, by which mountinfo writes blanks.
func unescape(s string) string {
	for _, c := range []string{" ", "\t", "\n", "\\"} {
		s = strings.ReplaceAll(s, fmt.Sprintf("\\%03o", c[0]), c)
	}
	return s
}

// Hybrid reports whether cgroup v1 controllers are mounted as well. There a container
// runtime may put containers into v1 groups only, so that many of them share one of v2.
func (c *Cgroups) Hybrid() bool { return c.hybrid }

// Root returns the id of the top of the hierarchy as we see it.
func (c *Cgroups) Root() uint64 { return c.root }

// Path returns the group's path below the mount, such as "/system.slice/a.service", "/"
// for the top. ErrGone when there is no such group, or it is outside of what we see.
func (c *Cgroups) Path(id uint64) (string, error) {
	dir, err := c.open(id)
	if err != nil {
		return "", err
	}
	defer func() { _ = dir.Close() }()
	return c.below(dir)
}

// RootsAlone reports whether only root can have made a group and those above it: each
// belongs to root, and the group's name is no user's choice. False where one is gone.
func (c *Cgroups) RootsAlone(path string) bool {
	for ; path != "" && path != "/"; path = filepath.Dir(path) {
		var st unix.Stat_t
		if !filepath.IsAbs(path) || unix.Lstat(c.mount+path, &st) != nil || st.Uid != 0 {
			return false
		}
	}
	return path == "/"
}

func (c *Cgroups) below(dir *os.File) (string, error) {
	name, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(dir.Fd())))
	if err != nil {
		return "", fmt.Errorf("path of a cgroup: %w", err)
	}
	rest, found := strings.CutPrefix(name, c.mount)
	switch {
	case !found || strings.HasSuffix(rest, " (deleted)"):
		return "", fmt.Errorf("cgroup %.200q: %w", name, ErrGone)
	case rest == "":
		return "/", nil
	}
	return rest, nil
}

// PIDs returns the processes that are in the group now, not those of groups below it,
// in no order. Processes that our PID namespace does not show are 0. ErrGone as Path.
func (c *Cgroups) PIDs(id uint64) ([]int, error) {
	dir, err := c.open(id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	fd, err := unix.Openat(int(dir.Fd()), "cgroup.procs", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("processes of cgroup %d: %w", id, err)
	}
	f := os.NewFile(uintptr(fd), "cgroup.procs")
	defer func() { _ = f.Close() }()
	var pids []int
	s := bufio.NewScanner(f)
	for s.Scan() {
		pid, err := strconv.Atoi(s.Text())
		if err != nil {
			return nil, fmt.Errorf("processes of cgroup %d: %.20q is no PID", id, s.Text())
		}
		pids = append(pids, pid)
	}
	switch err := s.Err(); {
	case errors.Is(err, unix.ENODEV):
		return nil, fmt.Errorf("cgroup %d: %w", id, ErrGone)
	case err != nil:
		return nil, fmt.Errorf("processes of cgroup %d: %w", id, err)
	}
	return pids, nil
}

// open opens the group's directory: by its handle where we may (CAP_DAC_READ_SEARCH),
// else by the path that a walk has seen. What has been opened is compared by its id.
func (c *Cgroups) open(id uint64) (*os.File, error) {
	if id == c.root {
		return c.openPath(id, "")
	}
	if dir, err := c.openHandle(id); err == nil || errors.Is(err, ErrGone) {
		return dir, err
	}
	return c.openWalked(id)
}

// fileIDKernfs is FILEID_KERNFS of linux/exportfs.h: the handle is the id alone.
const fileIDKernfs = 0xfe

func (c *Cgroups) openHandle(id uint64) (*os.File, error) {
	mount, err := unix.Open(c.mount, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(mount) }()
	handle := unix.NewFileHandle(fileIDKernfs, binary.NativeEndian.AppendUint64(nil, id))
	fd, err := unix.OpenByHandleAt(mount, handle, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC)
	if errors.Is(err, unix.ESTALE) {
		return nil, fmt.Errorf("cgroup %d: %w", id, ErrGone)
	}
	if err != nil {
		return nil, err
	}
	return checked(fd, id)
}

func (c *Cgroups) openPath(id uint64, below string) (*os.File, error) {
	fd, err := unix.Open(c.mount+below, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("cgroup %d: %w", id, ErrGone)
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup %d: %w", id, err)
	}
	return checked(fd, id)
}

func checked(fd int, id uint64) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Ino != id {
		return nil, errors.Join(fmt.Errorf("cgroup %d: %w", id, ErrGone), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "cgroup"), nil
}

// openWalked walks the tree when the last walk has not seen the id. Walks do not
// overlap, and take at most half of one processor, however many ids are asked for.
func (c *Cgroups) openWalked(id uint64) (*os.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	below, seen := c.known[id]
	if !seen {
		c.walk()
		below, seen = c.known[id]
	}
	if !seen {
		return nil, fmt.Errorf("cgroup %d: %w: it is removed, or outside of the hierarchy that egret sees at %q (in a container, mount the host's)", id, ErrGone, c.mount)
	}
	return c.openPath(id, below)
}

func (c *Cgroups) walk() {
	time.Sleep(time.Until(c.wait)) //nolint:forbidigo // as long as the last walk took
	begin := time.Now()
	c.known = make(map[uint64]string, len(c.known))
	_ = filepath.WalkDir(c.mount, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fs.SkipDir // removed meanwhile, or not ours to read
		case !d.IsDir():
			return nil
		case len(c.known) >= maxKnown:
			return fs.SkipAll
		}
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil {
			c.known[st.Ino] = strings.TrimPrefix(path, c.mount)
		}
		return nil
	})
	now := time.Now()
	c.wait = now.Add(now.Sub(begin))
}

// of returns the id of the v2 group that a /proc/PID/cgroup names; 0 where it names none.
func (c *Cgroups) of(file string) (uint64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("cgroup of a process: %w", err)
	}
	path, found := unifiedOf(b)
	if !found {
		return 0, nil
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(c.mount, path), &st); err != nil {
		return 0, fmt.Errorf("cgroup %.200q of a process: %w", path, err)
	}
	return st.Ino, nil
}

// unifiedOf finds the line of the v2 hierarchy, "0::/path".
func unifiedOf(b []byte) (string, bool) {
	for line := range bytes.Lines(b) {
		if path, found := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("\n")), []byte("0::")); found {
			return string(path), true
		}
	}
	return "", false
}
