// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/netns"
)

// packets are all frames that leave the pod, as AF_PACKET sees them on its interface.
type packets struct {
	fd   int
	done chan struct{}

	mu    sync.Mutex
	syns  int // TCP connections that were begun, to whatever port
	udp   int // UDP packets to port 443
	bytes []byte
	lost  bool
}

// maxKept bounds what is kept of payloads.
const maxKept = 64 << 20

func watch(t *testing.T, n *netns.NS) *packets {
	t.Helper()
	p := &packets{done: make(chan struct{})}
	all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := n.Do(func() (err error) {
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		eth, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: eth.Index})
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
	buf := make([]byte, 128<<10)
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
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			p.note(buf[:n])
		}
	}
}

func (p *packets) note(frame []byte) {
	proto, segment := transport(frame)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case proto == unix.IPPROTO_TCP && len(segment) >= 20:
		if flags := segment[13]; flags&0x12 == 0x02 { // SYN without ACK
			p.syns++
		}
		if off := int(segment[12]>>4) * 4; off <= len(segment) {
			p.keep(segment[off:])
		}
	case proto == unix.IPPROTO_UDP && len(segment) >= 8:
		if binary.BigEndian.Uint16(segment[2:]) == 443 {
			p.udp++
		}
		p.keep(segment[8:])
	}
}

func (p *packets) keep(payload []byte) {
	if len(p.bytes)+len(payload) > maxKept {
		p.lost = true
		return
	}
	p.bytes = append(p.bytes, payload...)
}

// transport finds the segment in an IPv4 or IPv6 packet without extension headers.
func transport(ip []byte) (proto int, segment []byte) {
	switch {
	case len(ip) >= 20 && ip[0]>>4 == 4:
		return int(ip[9]), ip[min(int(ip[0]&15)*4, len(ip)):]
	case len(ip) >= 40 && ip[0]>>4 == 6:
		return int(ip[6]), ip[40:]
	}
	return 0, nil
}

// begun returns how many connections have left the pod, and UDP packets to port 443.
func (p *packets) begun() (syns, quic int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.syns, p.udp
}

// holdNoSecret looks through everything that has left the pod: no credential, and nothing
// of a request in the clear.
func (p *packets) holdNoSecret(t *testing.T, w *world) {
	t.Helper()
	p.mu.Lock()
	all, lost := slices.Clone(p.bytes), p.lost
	p.mu.Unlock()
	if lost || len(all) == 0 {
		t.Errorf("%d bytes were seen, lost: %v", len(all), lost)
	}
	for name, key := range w.keys {
		if bytes.Contains(all, []byte(key.Reveal())) {
			t.Errorf("the key of %s has left in the clear", name)
		}
	}
	for _, plain := range []string{"HTTP/1.1\r\n", "GET /", "POST /", "Authorization", "/v1/project", "PRI * HTTP/2.0", "Egret-Decision"} {
		if bytes.Contains(all, []byte(plain)) {
			t.Errorf("%q has left in the clear", plain)
		}
	}
	if !bytes.Contains(all, []byte("api.qase.io")) { // the server name, which TLS does not hide: the watch does see
		t.Error("not even a server name was seen")
	}
}
