// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Sizes and offsets of linux/inet_diag.h. Ports and addresses are in network order,
// everything else in the machine's.
const (
	reqSize   = unix.SizeofNlMsghdr + 56 // inet_diag_req_v2
	msgSize   = 72                       // inet_diag_msg
	msgID     = 4                        // inet_diag_sockid in inet_diag_msg
	idSrc     = 4                        // offsets in inet_diag_sockid
	idDst     = 20
	idCookie  = 40
	msgUID    = 64
	msgInode  = 68
	attrCgrp  = 21 // INET_DIAG_CGROUP_ID, since Linux 5.8
	noCookie  = ^uint32(0)
	anyState  = ^uint32(0)
	diagReply = 4096
)

// errAbsent is ErrNoOwner where no socket at all has these ends; a listening one has others.
var errAbsent = fmt.Errorf("%w: none has these ends", ErrNoOwner)

// diag is a sock_diag netlink socket for one goroutine. It sees the network namespace
// of the thread that opened it.
type diag struct {
	fd  int
	seq uint32 // of the last question; begins anywhere, since a socket may have had another asker
}

func openDiag() (*diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, err
	}
	return newDiag(fd)
}

// newDiag takes fd over, also when it fails.
func newDiag(fd int) (*diag, error) {
	// The kernel answers within the send; the limit is for a kernel that never does.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return &diag{fd: fd, seq: rand.Uint32()}, nil
}

func (d *diag) close() { _ = unix.Close(d.fd) }

// find returns the established TCP socket with exactly these ends. ErrNoOwner where
// there is none: the kernel's own look-up falls back to listening sockets, and says so
// only by the state and the addresses in its answer.
func (d *diag) find(src, dst netip.AddrPort) (Owner, error) {
	d.seq++
	if err := unix.Sendto(d.fd, request(d.seq, src, dst), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return Owner{}, fmt.Errorf("ask sock_diag: %w", err)
	}
	buf := make([]byte, diagReply)
	n, err := d.receive(buf)
	if err != nil {
		return Owner{}, err
	}
	body, err := reply(buf[:n], d.seq)
	if err != nil {
		return Owner{}, err
	}
	return owner(body, src, dst)
}

// receive reads the answer to the last question. On a socket that is kept, answers may come
// first that nobody waited for: to earlier questions, and to those of a process that had the
// socket before and was killed.
func (d *diag) receive(buf []byte) (int, error) {
	for {
		n, from, err := unix.Recvfrom(d.fd, buf, 0)
		if err == unix.EINTR { // SO_RCVTIMEO switches SA_RESTART off
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("answer of sock_diag: %w", err)
		}
		if nl, ok := from.(*unix.SockaddrNetlink); !ok || nl.Pid != 0 {
			return 0, errors.New("answer of sock_diag: not from the kernel")
		}
		if n >= unix.SizeofNlMsghdr && binary.NativeEndian.Uint32(buf[8:]) != d.seq {
			continue
		}
		return n, nil
	}
}

func request(seq uint32, src, dst netip.AddrPort) []byte {
	b := make([]byte, reqSize)
	ne := binary.NativeEndian
	ne.PutUint32(b[0:], reqSize)
	ne.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	ne.PutUint16(b[6:], unix.NLM_F_REQUEST)
	ne.PutUint32(b[8:], seq)
	r := b[unix.SizeofNlMsghdr:]
	r[0], r[1] = family(src.Addr()), unix.IPPROTO_TCP
	ne.PutUint32(r[4:], anyState) // an exact query ignores it
	id := r[8:]
	binary.BigEndian.PutUint16(id[0:], src.Port())
	binary.BigEndian.PutUint16(id[2:], dst.Port())
	copy(id[idSrc:], src.Addr().AsSlice())
	copy(id[idDst:], dst.Addr().AsSlice())
	ne.PutUint32(id[idCookie:], noCookie)
	ne.PutUint32(id[idCookie+4:], noCookie)
	return b
}

func family(a netip.Addr) byte {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// reply unwraps one netlink message.
func reply(b []byte, seq uint32) ([]byte, error) {
	ne := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr {
		return nil, fmt.Errorf("answer of sock_diag has %d bytes, a header has %d", len(b), unix.SizeofNlMsghdr)
	}
	size, kind := ne.Uint32(b[0:]), ne.Uint16(b[4:])
	if uint64(size) > uint64(len(b)) || size < unix.SizeofNlMsghdr || ne.Uint32(b[8:]) != seq {
		return nil, fmt.Errorf("answer of sock_diag is malformed")
	}
	body := b[unix.SizeofNlMsghdr:size]
	switch {
	case kind == unix.NLMSG_ERROR && len(body) >= 4:
		errno := unix.Errno(-int32(ne.Uint32(body)))
		if errno == unix.ENOENT {
			return nil, errAbsent
		}
		return nil, fmt.Errorf("sock_diag: %w", errno)
	case kind != unix.SOCK_DIAG_BY_FAMILY || len(body) < msgSize:
		return nil, fmt.Errorf("answer of sock_diag is malformed")
	}
	return body, nil
}

// owner reads inet_diag_msg and the attributes after it.
func owner(b []byte, src, dst netip.AddrPort) (Owner, error) {
	ne := binary.NativeEndian
	id := b[msgID:]
	gotSrc := end(b[0], id[idSrc:], binary.BigEndian.Uint16(id[0:]))
	gotDst := end(b[0], id[idDst:], binary.BigEndian.Uint16(id[2:]))
	o := Owner{
		UID:    ne.Uint32(b[msgUID:]),
		Inode:  uint64(ne.Uint32(b[msgInode:])),
		Cookie: uint64(ne.Uint32(id[idCookie:])) | uint64(ne.Uint32(id[idCookie+4:]))<<32,
		Cgroup: cgroupOf(b[msgSize:]),
	}
	if gotSrc != withoutZone(src) || gotDst != withoutZone(dst) {
		return Owner{}, fmt.Errorf("%w: asked for %s to %s, got %s to %s", errAbsent, src, dst, gotSrc, gotDst)
	}
	if state := b[1]; state != tcpEstablished {
		return Owner{}, fmt.Errorf("%w: its TCP state is %d", ErrNoOwner, state)
	}
	if o.Inode == 0 { // its process has let go of it
		return Owner{}, fmt.Errorf("%w: it has no owner any more", ErrNoOwner)
	}
	return o, nil
}

// end reads one end. A v6 socket that speaks v4 is listed with mapped addresses.
func end(family byte, addr []byte, port uint16) netip.AddrPort {
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr[:16])).Unmap(), port)
}

func withoutZone(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

// cgroupOf walks the attributes; 0 where there is none.
func cgroupOf(b []byte) uint64 {
	const header, align = 4, 4
	for len(b) >= header {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < header || size > len(b) {
			return 0
		}
		if kind == attrCgrp && size >= header+8 {
			return binary.NativeEndian.Uint64(b[header:])
		}
		b = b[min((size+align-1)&^(align-1), len(b)):]
	}
	return 0
}
