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

// NetNS is not available on this system.
func NetNS() (uint64, error) { return 0, errors.ErrUnsupported }

// Diag is not available on this system.
type Diag struct{}

// OpenDiag is not available on this system.
func OpenDiag() (*Diag, error) { return nil, errors.ErrUnsupported }

// AdoptDiag is not available on this system.
func AdoptDiag(*os.File) (*Diag, error) { return nil, errors.ErrUnsupported }

// PeerFacts is not available on this system.
func (*Diag) PeerFacts(net.Conn) (Facts, error) { return Facts{}, errors.ErrUnsupported }

// Close is not available on this system.
func (*Diag) Close() {}

func userTimeout(*net.TCPConn, time.Duration) error { return nil }
