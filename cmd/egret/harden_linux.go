// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// harden keeps credentials in this process: no core dump, and no other process of the
// same user may attach or read its memory (MUST C9).
func harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("switching off core dumps: %w", err)
	}
	return forbidAttach()
}

// forbidAttach is what harden does without its limit, which a child would inherit: a
// process that is not dumpable leaves no core either, and execve(2) takes that back.
func forbidAttach() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("making the process unreadable to others: %w", err)
	}
	return nil
}
