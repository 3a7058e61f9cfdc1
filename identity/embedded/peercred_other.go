// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package embedded

import (
	"errors"
	"syscall"

	"github.com/egret-proxy/egret/identity/kernel"
)

func uidOfPeer(int) (uint32, error) { return 0, errors.ErrUnsupported }

func processOfPeer(syscall.RawConn) (*kernel.Process, error) { return nil, errors.ErrUnsupported }
