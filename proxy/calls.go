// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"weak"
)

// calls are the connections that egret itself has open, by their ends: a captured one
// that is among them has come round (MUST P3: no loop). The zero value is empty. Safe for
// concurrent use.
type calls struct {
	mu   sync.Mutex
	open map[ends]weak.Pointer[net.TCPConn]
}

// ends are a connection's addresses, with IPv4 unmapped.
type ends struct{ from, to netip.AddrPort }

// add notes a connection before anything is sent on it. It is forgotten when nobody holds
// it any more, so that whoever closes it need not say so.
func (c *calls) add(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	e := ends{plainAddr(tcp.LocalAddr()), plainAddr(tcp.RemoteAddr())}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open == nil {
		c.open = map[ends]weak.Pointer[net.TCPConn]{}
	}
	c.open[e] = weak.Make(tcp)
	runtime.AddCleanup(tcp, c.forget, e)
}

// forget drops the entry of a connection that is gone, unless another has its ends now.
func (c *calls) forget(e ends) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w, ok := c.open[e]; ok && w.Value() == nil {
		delete(c.open, e)
	}
}

// has reports whether one of them runs between these ends and has not been closed.
func (c *calls) has(from, to netip.AddrPort) bool {
	c.mu.Lock()
	conn := c.open[ends{from, to}].Value()
	c.mu.Unlock()
	if conn == nil {
		return false
	}
	raw, err := conn.SyscallConn()
	return err == nil && raw.Control(func(uintptr) {}) == nil
}

// plainAddr is an address of a TCP socket, IPv4 unmapped and without a zone; the zero
// value for other kinds.
func plainAddr(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}
