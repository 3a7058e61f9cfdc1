// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST of linux/netfilter_ipv4.h and IP6T_SO_ORIGINAL_DST of
// linux/netfilter_ipv6/ip6_tables.h.
const soOriginalDst = 80

// OriginalDst returns where the client of an accepted TCP connection wanted to go: what
// netfilter's REDIRECT or DNAT replaced (SO_ORIGINAL_DST), else the connection's own local
// address, which with TPROXY is the client's destination too, and without either is the
// listener's. It is the client's choice, and proves nothing (MUST T4). Mapped IPv4
// addresses are returned as IPv4.
func OriginalDst(conn net.Conn) (netip.AddrPort, error) {
	c, ok := unwrap(conn).(*net.TCPConn)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("original destination of a %T: %w", conn, errors.ErrUnsupported)
	}
	local, err := addrPort(c.LocalAddr())
	if err != nil {
		return netip.AddrPort{}, err
	}
	out := local
	err = control(c, func(fd int) (err error) {
		out, err = replacedDst(fd, local)
		return err
	})
	return out, err
}

func replacedDst(fd int, local netip.AddrPort) (netip.AddrPort, error) {
	level := unix.SOL_IPV6
	if local.Addr().Is4() {
		level = unix.SOL_IP
	}
	// The answer is a sockaddr_in6, or a sockaddr_in, which is shorter: this call's type
	// has room for both.
	info, err := unix.GetsockoptIPv6MTUInfo(fd, level, soOriginalDst)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOPROTOOPT), errors.Is(err, unix.EOPNOTSUPP):
		return local, nil // netfilter does not follow this connection, or nobody follows any
	case err != nil:
		return netip.AddrPort{}, fmt.Errorf("SO_ORIGINAL_DST: %w", err)
	}
	port := networkOrder(info.Addr.Port)
	if level == unix.SOL_IPV6 {
		return netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr).Unmap(), port), nil
	}
	var v4 [4]byte // sin_addr stands where sockaddr_in6 has its flow label
	binary.NativeEndian.PutUint32(v4[:], info.Addr.Flowinfo)
	return netip.AddrPortFrom(netip.AddrFrom4(v4), port), nil
}

// networkOrder reads a port that the kernel wrote in the order of the network.
func networkOrder(n uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], n)
	return binary.BigEndian.Uint16(b[:])
}

// CapturedFacts is PeerFacts for a connection that REDIRECT brought here: the client's
// socket believes to be connected to original, and is looked for by that. Where another
// connection has the same port towards another destination, or a rule of SNAT or MASQUERADE
// says so, netfilter gives this one another source: ErrRewritten. What it was before only
// connection tracking knows, which answers to CAP_NET_ADMIN alone; such a connection is never
// credited to somebody else. TPROXY changes no source.
func (g *Diag) CapturedFacts(conn net.Conn, original netip.AddrPort) (Facts, error) {
	c, ok := unwrap(conn).(*net.TCPConn)
	if !ok {
		return Facts{}, fmt.Errorf("owner of the peer of a %T: %w", conn, errors.ErrUnsupported)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	o, err := g.d.ownerAt(c, original)
	return Facts{Owner: o}, err
}

// ListenTransparent listens with IP_TRANSPARENT, so that TPROXY can hand over connections
// to any address; those addresses are then the connections' own. It needs CAP_NET_ADMIN
// while it is called, not afterwards.
func ListenTransparent(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, raw syscall.RawConn) error {
		var inner error
		err := raw.Control(func(fd uintptr) { inner = SetTransparent(int(fd), network) })
		return errors.Join(err, inner)
	}}
	return lc.Listen(ctx, "tcp", address)
}

// SetTransparent sets IP_TRANSPARENT on a socket of network tcp4 or tcp6. It needs
// CAP_NET_ADMIN in the network namespace of the socket.
func SetTransparent(fd int, network string) error {
	err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_TRANSPARENT, 1)
	if network == "tcp6" { // which may serve IPv4 too
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1))
	}
	if err != nil {
		return fmt.Errorf("IP_TRANSPARENT: %w (it needs CAP_NET_ADMIN: AmbientCapabilities=CAP_NET_ADMIN, or use REDIRECT rules and leave tproxy out)", err)
	}
	return nil
}

// SetMark gives a socket's packets a firewall mark (SO_MARK), by which rules know them. It
// needs CAP_NET_ADMIN or, since Linux 5.17, CAP_NET_RAW.
func SetMark(c syscall.RawConn, mark uint32) error {
	var inner error
	err := c.Control(func(fd uintptr) { inner = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark)) })
	return markError(errors.Join(err, inner))
}

// CanMark reports why SetMark would fail, so that a start can say so; 0 is no mark.
func CanMark(mark uint32) error {
	if mark == 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return markError(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark)))
}

func markError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("SO_MARK: %w (it needs CAP_NET_ADMIN or CAP_NET_RAW)", err)
}
