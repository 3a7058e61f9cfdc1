// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build unix

package h1

import (
	"errors"
	"io"
	"syscall"
)

const canTry = true

// read reads once, without waiting. It reports that it is done, whatever came.
func (s *Socket) read(fd uintptr) bool {
	n, err := syscall.Read(int(fd), s.p)
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(int(fd), s.p)
	}
	s.n, s.err = max(n, 0), err
	switch {
	case errors.Is(err, syscall.EAGAIN):
		s.err = nothing{}
	case err == nil && n == 0 && len(s.p) > 0:
		s.err = io.EOF
	}
	return true
}
