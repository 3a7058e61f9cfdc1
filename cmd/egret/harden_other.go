// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden switches off core dumps; other systems guard a process' memory themselves.
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching off core dumps: %w", err)
	}
	return nil
}

// forbidAttach has nothing to do here.
func forbidAttach() error { return nil }
