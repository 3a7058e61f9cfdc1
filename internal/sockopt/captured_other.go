// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sockopt

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// OriginalDst is not available on this system.
func OriginalDst(net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, errors.ErrUnsupported }

// CapturedFacts is not available on this system.
func (*Diag) CapturedFacts(net.Conn, netip.AddrPort) (Facts, error) {
	return Facts{}, errors.ErrUnsupported
}

// ListenTransparent is not available on this system.
func ListenTransparent(context.Context, string) (net.Listener, error) {
	return nil, errors.ErrUnsupported
}

// SetMark is not available on this system.
func SetMark(syscall.RawConn, uint32) error { return errors.ErrUnsupported }

// CanMark is not available on this system but for no mark.
func CanMark(mark uint32) error {
	if mark == 0 {
		return nil
	}
	return errors.ErrUnsupported
}
