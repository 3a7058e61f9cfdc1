// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sockopt

import (
	"errors"
	"net"
	"os"
	"time"
)

// PeerOwner is not available on this system.
func PeerOwner(net.Conn) (Owner, error) { return Owner{}, errors.ErrUnsupported }

// PeerPIDFD is not available on this system.
func PeerPIDFD(*net.UnixConn) (*os.File, error) { return nil, errors.ErrUnsupported }

func userTimeout(*net.TCPConn, time.Duration) error { return nil }
