// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
)

// packets counts the TCP connections that pods begin past egret: every SYN that comes in
// at the node by another interface than the one to the outside.
type packets struct {
	fd   int
	eth  int
	done chan struct{}

	mu   sync.Mutex
	syns int // by the pods' interfaces
	out  int // by the node's own: what egret sends
}

const loopback = 1 // its index in every namespace

func watch(t *testing.T, n *netns.NS) *packets {
	t.Helper()
	p := &packets{done: make(chan struct{})}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := n.Do(func() (err error) {
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		eth, err := net.InterfaceByName("eth0")
		if err == nil {
			p.eth = eth.Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	_ = unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
	_ = unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	stop := make(chan struct{})
	go p.read(stop)
	t.Cleanup(func() { close(stop); <-p.done; _ = unix.Close(p.fd) })
	return p
}

func (p *packets) read(stop <-chan struct{}) {
	defer close(p.done)
	buf := make([]byte, 256)
	for {
		select {
		case <-stop:
			return
		default:
		}
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if err != nil {
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
				continue
			}
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || !isSYN(buf[:n]) {
			continue
		}
		p.mu.Lock()
		switch outgoing := ll.Pkttype == unix.PACKET_OUTGOING; {
		case ll.Ifindex == p.eth && outgoing:
			p.out++
		case ll.Ifindex != p.eth && ll.Ifindex != loopback && !outgoing:
			p.syns++
		}
		p.mu.Unlock()
	}
}

// isSYN reports whether an IPv4 or IPv6 packet without extension headers begins a TCP
// connection.
func isSYN(ip []byte) bool {
	var segment []byte
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4 && ip[9] == unix.IPPROTO_TCP:
		segment = ip[min(int(ip[0]&15)*4, len(ip)):]
	case len(ip) >= 40 && ip[0]>>4 == 6 && ip[6] == unix.IPPROTO_TCP:
		segment = ip[40:]
	}
	return len(segment) >= 14 && segment[13]&0x12 == 0x02
}

// past is how many connections have left pods, and own how many the node has begun.
func (p *packets) count() (past, own int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.syns, p.out
}

// holdNone fails if a connection has left a pod.
func (p *packets) holdNone(t *testing.T) {
	t.Helper()
	if past, own := p.count(); past != 0 || own == 0 {
		t.Errorf("%d connections have left pods uncaptured (egret has begun %d)", past, own)
	}
}
