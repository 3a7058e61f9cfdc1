// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// kernel tries what listeners ask the kernel, on connections of its own.
func (e *examination) kernel() {
	n := needed(e.Config.Listeners)
	var u unix.Utsname
	if err := unix.Uname(&u); err == nil {
		e.ok("kernel", "Linux %s", unix.ByteSliceToString(u.Release[:]))
	}
	o, err := tcpOwner()
	if err == nil && o.UID != uint32(uid()) {
		err = fmt.Errorf("it says uid %d of a connection of uid %d", o.UID, uid())
	}
	e.feature("uid of TCP peers", "sock_diag tells (sameUser, process)", err, n.uid)
	if err == nil && o.Cgroup == 0 {
		err = errors.New("sock_diag tells no cgroup of a socket: it does since Linux 5.8, with cgroup v2")
	}
	e.feature("cgroup of TCP peers", "sock_diag tells (process)", err, n.cgroup)
	e.cgroups(n)
	e.processes(n)
	e.feature("pidfd of unix peers", "SO_PEERPIDFD tells (process)", peerPIDFD(), n.pidfd)
	if err := pidfdInfo(); err != nil {
		e.ok("facts of processes", "from /proc, each held against its pidfd (PIDFD_GET_INFO is there since Linux 6.13)")
	} else {
		e.ok("facts of processes", "PIDFD_GET_INFO tells")
	}
}

func (e *examination) cgroups(n needs) {
	const check = "cgroup v2"
	c, err := kernel.FindCgroups()
	if err == nil && c.Hybrid() {
		level := Warn
		if n.v2only {
			level = Fail
		}
		e.bad(level, check, "boot with systemd.unified_cgroup_hierarchy=1, or see to it that each workload has a v2 group of its own and set hybrid",
			"cgroup v1 is mounted too: containers may share one v2 group")
		return
	}
	e.feature(check, "mounted, and no v1 beside it", err, n.cgroup)
}

// processes looks whether /proc shows those of other users, of whom the kernel tells when
// each started only there.
func (e *examination) processes(n needs) {
	const check = "processes of others"
	_, err := os.ReadFile("/proc/1/stat")
	switch {
	case err == nil:
		e.ok(check, "/proc shows them")
	case n.cgroup || n.pidfd:
		e.bad(Fail, check, "set ProtectProc=default in egret's systemd unit (deploy/systemd/process.conf), or mount /proc without hidepid", err)
	default:
		e.bad(Warn, check, "none of these listeners needs it", err)
	}
}

// tcpOwner asks about a connection between two sockets of ours.
func tcpOwner() (sockopt.Owner, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return sockopt.Owner{}, err
	}
	defer func() { _ = l.Close() }()
	c, err := (&net.Dialer{}).Dial("tcp4", l.Addr().String())
	if err != nil {
		return sockopt.Owner{}, err
	}
	defer c.Close()
	peer, err := l.AcceptTCP()
	if err != nil {
		return sockopt.Owner{}, err
	}
	defer func() { _ = peer.Close() }()
	return sockopt.PeerOwner(peer)
}

// peerPIDFD asks about the other end of a pair of ours.
func peerPIDFD() error {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fds[1]) }()
	f := os.NewFile(uintptr(fds[0]), "pair")
	defer func() { _ = f.Close() }()
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	defer c.Close()
	pair, ok := c.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("the pair is a %T", c)
	}
	pidfd, err := sockopt.PeerPIDFD(pair)
	if err != nil {
		return fmt.Errorf("%w: it is there since Linux 6.5", err)
	}
	return pidfd.Close()
}

func pidfdInfo() error {
	fd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.IoctlPidfdInfo(fd, &unix.PidfdInfo{Mask: unix.PIDFD_INFO_PID})
}

// connected is what a listener would be told of a connection that a process makes.
func connected(s subject, tcp bool) (identity.Process, func(), error) {
	p := identity.Process{PID: s.facts.PID, UID: s.facts.UID, Cgroup: s.facts.Cgroup, PIDFD: -1}
	if tcp {
		return p, func() {}, nil
	}
	fd, err := unix.PidfdOpen(s.facts.PID, 0)
	if err != nil {
		return p, nil, fmt.Errorf("process %d: %w", s.facts.PID, err)
	}
	p.PIDFD = fd
	return p, func() { _ = unix.Close(fd) }, nil
}

// maxTable bounds what is read of a table of sockets.
const maxTable = 8 << 20

// listening are the TCP ports that are listened on in this network namespace.
func listening() []uint16 {
	var out []uint16
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		text, _ := io.ReadAll(io.LimitReader(f, maxTable))
		_ = f.Close()
		out = append(out, listeningIn(string(text))...)
	}
	return out
}
