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
)

// peerCredentials is the "handshake" of the socket: it asks the kernel whose process
// connected, and keeps the answer with the connection. The socket is not encrypted;
// it never leaves the machine.
type peerCredentials struct{}

// peerInfo is what the kernel said. It implements credentials.AuthInfo.
type peerInfo struct {
	credentials.CommonAuthInfo
	uid uint32
}

func (peerInfo) AuthType() string { return "unix-peer" }

func peerUID(ctx context.Context) (uint32, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return 0, false
	}
	info, ok := p.AuthInfo.(peerInfo)
	return info.uid, ok
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
	return c, info, nil
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
