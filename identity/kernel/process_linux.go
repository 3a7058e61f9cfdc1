// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Process is a process that is held by its pidfd: its PID may be given to another one,
// the Process does not become that. All methods are safe for concurrent use.
type Process struct {
	fd  *os.File
	raw syscall.RawConn
	pid int
}

// Open holds the process that has a PID now, in this PID namespace. ErrGone where none
// has.
func Open(pid int) (*Process, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("process %d: %w: it is of another PID namespace; run egret in the host's (hostPID)", pid, ErrNotSeen)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	case errors.Is(err, unix.ENOSYS):
		return nil, fmt.Errorf("pidfd_open: %w: it needs Linux 5.10", errors.ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("pidfd_open of process %d: %w", pid, err)
	}
	return hold(fd, pid)
}

// Adopt holds the process of a pidfd, which it duplicates and does not close.
func Adopt(pidfd int) (*Process, error) {
	fd, err := unix.FcntlInt(uintptr(pidfd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, fmt.Errorf("duplicate pidfd: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for the runtime's poller
		return nil, errors.Join(fmt.Errorf("pidfd: %w", err), unix.Close(fd))
	}
	pid, err := pidOf(fd)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return hold(fd, pid)
}

func hold(fd, pid int) (*Process, error) {
	f := os.NewFile(uintptr(fd), "pidfd:"+strconv.Itoa(pid))
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pidfd: %w", err), f.Close())
	}
	return &Process{fd: f, raw: raw, pid: pid}, nil
}

// pidOf reads the PID from the descriptor itself.
func pidOf(fd int) (int, error) {
	b, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(fd))
	if err != nil {
		return 0, fmt.Errorf("pidfd: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		value, ok := strings.CutPrefix(line, "Pid:")
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(value))
		switch {
		case err != nil:
			return 0, fmt.Errorf("pidfd: its PID reads %.20q", value)
		case pid == -1:
			return 0, fmt.Errorf("process: %w", ErrGone)
		case pid <= 0:
			return 0, fmt.Errorf("process: %w: it is of another PID namespace; run egret in the host's (hostPID)", ErrNotSeen)
		}
		return pid, nil
	}
	return 0, errors.New("descriptor is not a pidfd")
}

// PID returns the number of the process, which is its own only while Alive.
func (p *Process) PID() int { return p.pid }

// Close lets go of the process. Wait returns, and everything else is ErrGone.
func (p *Process) Close() { _ = p.fd.Close() }

// Alive reports whether the process has not ended. It costs one system call.
func (p *Process) Alive() bool {
	alive := false
	err := p.raw.Control(func(fd uintptr) { alive = !readable(int(fd)) })
	return err == nil && alive
}

// readable says whether a pidfd has become readable: its process has ended.
func readable(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if err == unix.EINTR {
			continue
		}
		return err != nil || n != 0
	}
}

// Wait returns nil when the process has ended, or the error of ctx. It waits in the
// runtime's poller and holds no thread. ErrGone after Close. One Wait at a time.
func (p *Process) Wait(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = p.fd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	err := p.raw.Read(func(fd uintptr) bool { return readable(int(fd)) })
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("process %d: %w: %w", p.pid, ErrGone, err)
}

// Facts returns what is so now. ErrGone when the process has ended, also while it was
// being asked about.
func (p *Process) Facts() (Facts, error) {
	f, err := p.info()
	if errors.Is(err, errors.ErrUnsupported) {
		f, err = p.status()
	}
	if err == nil {
		f.Start, err = p.start()
	}
	// What was read by PID is of this process only if it is still there.
	if !p.Alive() {
		return Facts{}, fmt.Errorf("process %d: %w", p.pid, ErrGone)
	}
	return f, err
}

// info asks by the pidfd, since Linux 6.13.
func (p *Process) info() (Facts, error) {
	const want = unix.PIDFD_INFO_PID | unix.PIDFD_INFO_CREDS | unix.PIDFD_INFO_CGROUPID
	i := unix.PidfdInfo{Mask: want}
	var ask error
	if err := p.raw.Control(func(fd uintptr) { ask = unix.IoctlPidfdInfo(int(fd), &i) }); err != nil {
		return Facts{}, fmt.Errorf("process %d: %w: %w", p.pid, ErrGone, err)
	}
	switch {
	case errors.Is(ask, unix.ESRCH):
		return Facts{}, fmt.Errorf("process %d: %w", p.pid, ErrGone)
	case ask != nil || i.Mask&want != want:
		return Facts{}, errors.ErrUnsupported
	}
	return Facts{PID: p.pid, UID: i.Euid, GID: i.Egid, Cgroup: i.Cgroupid}, nil
}

// status asks by the PID, on older kernels.
func (p *Process) status() (Facts, error) {
	b, err := os.ReadFile(p.path("status"))
	if err != nil {
		return Facts{}, fmt.Errorf("process %d: %w", p.pid, err)
	}
	f := Facts{PID: p.pid}
	var errU, errG error
	f.UID, errU = effective(b, "Uid:")
	f.GID, errG = effective(b, "Gid:")
	if err := errors.Join(errU, errG); err != nil {
		return Facts{}, fmt.Errorf("process %d: %w", p.pid, err)
	}
	c, err := FindCgroups()
	if err != nil {
		return f, nil //nolint:nilerr // a machine without cgroup v2 has none to tell
	}
	f.Cgroup, err = c.of(p.path("cgroup"))
	return f, err
}

// effective reads the second of the four ids of a line of /proc/PID/status.
func effective(status []byte, name string) (uint32, error) {
	_, rest, found := bytes.Cut(status, []byte("\n"+name))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	if fields := bytes.Fields(line); found && len(fields) == 4 {
		id, err := strconv.ParseUint(string(fields[1]), 10, 32)
		return uint32(id), err
	}
	return 0, fmt.Errorf("status has no usable %q", name)
}

func (p *Process) start() (uint64, error) {
	b, err := os.ReadFile(p.path("stat"))
	if err != nil {
		return 0, fmt.Errorf("process %d: %w", p.pid, err)
	}
	return startOf(b)
}

// startOf reads field 22 of /proc/PID/stat. The second one is the program's name in
// parentheses, in which a program may put anything, blanks and parentheses too.
func startOf(stat []byte) (uint64, error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return 0, errors.New("stat of a process has no name")
	}
	fields := bytes.Fields(stat[end+1:])
	const start = 22 - 3 // the first field after the name is the third
	if len(fields) <= start {
		return 0, fmt.Errorf("stat of a process has %d fields after the name, want at least %d", len(fields), start+1)
	}
	return strconv.ParseUint(string(fields[start]), 10, 64)
}

// Hierarchies returns the process' groups in all hierarchies, v1 and v2, as
// /proc/PID/cgroup lists them (cgroups(7)).
func (p *Process) Hierarchies() (string, error) {
	b, err := os.ReadFile(p.path("cgroup"))
	if err != nil || !p.Alive() {
		return "", fmt.Errorf("cgroups of process %d: %w", p.pid, cmp.Or(err, ErrGone))
	}
	return string(b), nil
}

// Executable returns the program that runs now; an exec changes it. It needs the right
// to trace the process: the same user, or CAP_SYS_PTRACE.
func (p *Process) Executable() (Executable, error) {
	link := p.path("exe")
	name, err := os.Readlink(link)
	if err != nil {
		return Executable{}, fmt.Errorf("program of process %d: %w", p.pid, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(link, &st); err != nil {
		return Executable{}, fmt.Errorf("program of process %d: %w", p.pid, err)
	}
	if !p.Alive() {
		return Executable{}, fmt.Errorf("process %d: %w", p.pid, ErrGone)
	}
	return Executable{Path: name, Dev: st.Dev, Ino: st.Ino}, nil
}

// Stat returns the file at an absolute path, as Executable would.
func Stat(path string) (Executable, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Executable{}, fmt.Errorf("program %q: %w", path, err)
	}
	return Executable{Path: path, Dev: st.Dev, Ino: st.Ino}, nil
}

// maxExecutable bounds what is read of a program to digest it.
const maxExecutable = 1 << 30

// SHA256 returns the digest of the program that runs now, in lower-case hex. It reads
// the file itself, not its path: another file may have that name by now.
func (p *Process) SHA256() (string, error) {
	f, err := os.Open(p.path("exe"))
	if err != nil {
		return "", fmt.Errorf("program of process %d: %w", p.pid, err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, maxExecutable+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("program of process %d: %w", p.pid, err)
	case n > maxExecutable:
		return "", fmt.Errorf("program of process %d has more than %d bytes", p.pid, maxExecutable)
	case !p.Alive():
		return "", fmt.Errorf("process %d: %w", p.pid, ErrGone)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (p *Process) path(name string) string { return "/proc/" + strconv.Itoa(p.pid) + "/" + name }
