// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package h1

import (
	"net"
	"syscall"
)

// Socket is a connection of the operating system that can be asked whether there is
// something to read. It goes below TLS, so that the records that TLS sends by itself
// (session tickets, key updates) are told from what the peer says.
type Socket struct {
	net.Conn
	raw syscall.RawConn
	try func(fd uintptr) bool // made once; it works on what follows
	now bool                  // reads do not wait
	p   []byte
	n   int
	err error
}

// NewSocket returns nil where the connection is none of the operating system's.
func NewSocket(c net.Conn) *Socket {
	sc, ok := c.(syscall.Conn)
	if !ok || !canTry {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &Socket{Conn: c, raw: raw}
	s.try = s.read
	return s
}

// Read implements net.Conn.
func (s *Socket) Read(p []byte) (int, error) {
	if s.now {
		return s.readNow(p)
	}
	return s.Conn.Read(p)
}

// readNow reads what is there, or returns nothing{}.
func (s *Socket) readNow(p []byte) (int, error) {
	s.p = p
	err := s.raw.Read(s.try)
	s.p = nil
	if err != nil {
		return 0, err
	}
	return s.n, s.err
}

// nothing says that there is nothing to read. It is temporary, so that TLS goes on.
type nothing struct{}

func (nothing) Error() string   { return "h1: nothing to read" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true }
