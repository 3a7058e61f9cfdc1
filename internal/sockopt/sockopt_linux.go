// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tcpEstablished is TCP_ESTABLISHED of linux/net/tcp_states.h, the same in TCP_INFO and
// in sock_diag.
const tcpEstablished = 1

// PeerOwner returns the owner of the socket at the other end of conn: of a TCP
// connection between two sockets of this machine and network namespace, or of a unix
// socket. A connection that wraps another (NetConn() net.Conn) is unwrapped.
//
// For TCP the answer is of the very connection, not of whoever has its address now:
// the kernel's tables are asked for both directions of the 4-tuple, both must be
// established, ours must be conn itself by its cookie (which also proves that we asked
// in its network namespace), and last of all conn's own state is looked at (MUST I5).
// If both ends are established with one tuple, they are one connection: another
// peer that takes the tuple meets our stale end, stays in SYN_SENT and is reset.
//
// Errors: ErrNoOwner, ErrStale (drop the connection), errors.ErrUnsupported for other
// kinds of connection, or that of a system call. It takes about 10 µs.
func PeerOwner(conn net.Conn) (Owner, error) {
	switch c := unwrap(conn).(type) {
	case *net.TCPConn:
		d, err := openDiag()
		if err != nil {
			return Owner{}, fmt.Errorf("open sock_diag: %w", err)
		}
		defer d.close()
		return d.tcpOwner(c)
	case *net.UnixConn:
		return unixOwner(c)
	}
	return Owner{}, fmt.Errorf("owner of the peer of a %T: %w", conn, errors.ErrUnsupported)
}

func unwrap(conn net.Conn) net.Conn {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = wrapped.NetConn()
	}
}

func (d *diag) tcpOwner(c *net.TCPConn) (Owner, error) {
	ours, err := addrPort(c.LocalAddr())
	if err != nil {
		return Owner{}, err
	}
	return d.ownerAt(c, ours)
}

// ownerAt finds the peer by where it believes to be connected to.
func (d *diag) ownerAt(c *net.TCPConn, believed netip.AddrPort) (Owner, error) {
	ours, err1 := addrPort(c.LocalAddr())
	theirs, err2 := addrPort(c.RemoteAddr())
	if err := errors.Join(err1, err2); err != nil {
		return Owner{}, err
	}
	peer, err := d.find(theirs, believed)
	if err != nil && (!errors.Is(err, errAbsent) || believed == ours) {
		return Owner{}, err
	}
	if err := d.holdOwn(c, ours, theirs); err != nil {
		return Owner{}, err
	}
	if err != nil { // the client is there, and nobody has its ends
		return Owner{}, ErrRewritten
	}
	return peer, nil
}

// holdOwn makes sure that our own end is what it was when the peer was asked for.
func (d *diag) holdOwn(c *net.TCPConn, ours, theirs netip.AddrPort) error {
	own, err := d.find(ours, theirs)
	if errors.Is(err, ErrNoOwner) {
		return fmt.Errorf("%w: the kernel does not list it in this network namespace", ErrStale)
	}
	if err != nil {
		return err
	}
	return control(c, func(fd int) error { return stillEstablished(fd, own.Cookie) })
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address is a %T, must be TCP", a)
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// stillEstablished holds our own end to MUST I5, and to being the socket that the
// kernel listed.
func stillEstablished(fd int, cookie uint64) error {
	own, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return fmt.Errorf("SO_COOKIE: %w", err)
	}
	if own != cookie {
		return fmt.Errorf("%w: another socket has its addresses", ErrStale)
	}
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return fmt.Errorf("TCP_INFO: %w", err)
	}
	pending, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("SO_ERROR: %w", err)
	}
	if info.State != tcpEstablished || pending != 0 {
		return fmt.Errorf("%w: TCP state is %d, pending error is %d", ErrStale, info.State, pending)
	}
	return nil
}

// unixOwner reads SO_PEERCRED: who connected, or for a socket pair who made it, at that
// time. The PID may be another process' by now; PeerPIDFD does not have that hole.
func unixOwner(c *net.UnixConn) (Owner, error) {
	var o Owner
	err := control(c, func(fd int) error {
		cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			return fmt.Errorf("SO_PEERCRED: %w", err)
		}
		o.UID, o.PID = cred.Uid, int(cred.Pid)
		return nil
	})
	return o, err
}

// PeerPIDFD returns a pidfd of the process that connected, which names that process and
// no later one with its PID. It becomes readable when the process has ended. The
// caller closes it. errors.ErrUnsupported before Linux 6.5, unix.ESRCH when the process
// had ended already.
func PeerPIDFD(c *net.UnixConn) (*os.File, error) {
	pidfd := -1
	err := control(c, func(fd int) (err error) {
		pidfd, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
		return err
	})
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return nil, fmt.Errorf("SO_PEERPIDFD: %w", errors.ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("SO_PEERPIDFD: %w", err)
	}
	return os.NewFile(uintptr(pidfd), "pidfd"), nil
}

// NetNS returns the inode of the network namespace that this process is in, by which
// namespaces are told apart.
func NetNS() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("network namespace: %w", err)
	}
	return st.Ino, nil
}

func userTimeout(c *net.TCPConn, d time.Duration) error {
	return control(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}
