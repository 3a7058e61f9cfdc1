// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/egret-proxy/egret/identity/kernel"
)

// peerCredentials is the "handshake" of the socket: it asks the kernel whose process
// connected, and keeps the answer with the connection. The socket is not encrypted;
// it never leaves the machine.
type peerCredentials struct{}

// peerInfo is what the kernel said. It implements credentials.AuthInfo.
type peerInfo struct {
	credentials.CommonAuthInfo
	uid     uint32
	process *kernel.Process // nil where the system does not hold processes
}

func (peerInfo) AuthType() string { return "unix-peer" }

// peerWorkload returns the process that connected. A process that has changed its user
// since is none of ours, nor is one that has ended.
func peerWorkload(ctx context.Context) (Workload, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Workload{}, false
	}
	info, ok := p.AuthInfo.(peerInfo)
	if !ok || info.process == nil {
		return Workload{Facts: kernel.Facts{UID: info.uid}, Exact: true}, ok
	}
	f, err := info.process.Facts()
	if err != nil || f.UID != info.uid {
		return Workload{}, false
	}
	return Workload{Process: info.process, Facts: f, Exact: true, Cgroup: cgroupPath(f.Cgroup)}, true
}

// cgroupPath returns nothing where the group cannot be seen: no entry matches that.
func cgroupPath(id uint64) string {
	c, err := kernel.FindCgroups()
	if err != nil {
		return ""
	}
	path, _ := c.Path(id)
	return path
}

// heldConn lets go of the process when its connection ends.
type heldConn struct {
	net.Conn
	process *kernel.Process
}

func (c heldConn) Close() error {
	c.process.Close()
	return c.Conn.Close()
}

// ServerHandshake implements credentials.TransportCredentials.
func (peerCredentials) ServerHandshake(c net.Conn) (net.Conn, credentials.AuthInfo, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil, nil, fmt.Errorf("connection is a %T, must be a socket", c)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	info := peerInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.NoSecurity}}
	var ask error
	if err := raw.Control(func(fd uintptr) { info.uid, ask = uidOfPeer(int(fd)) }); err != nil {
		return nil, nil, err
	}
	if ask != nil {
		return nil, nil, fmt.Errorf("ask the kernel for the peer's user: %w", ask)
	}
	if info.process, err = processOfPeer(raw); err != nil {
		if errors.Is(err, errors.ErrUnsupported) {
			return c, info, nil
		}
		return nil, nil, fmt.Errorf("ask the kernel for the peer's process: %w", err)
	}
	return heldConn{c, info.process}, info, nil
}

// ClientHandshake implements credentials.TransportCredentials; there is no client side.
func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

// Info implements credentials.TransportCredentials.
func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

// Clone implements credentials.TransportCredentials.
func (p peerCredentials) Clone() credentials.TransportCredentials { return p }

// OverrideServerName implements credentials.TransportCredentials.
func (peerCredentials) OverrideServerName(string) error { return nil }
