// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"slices"

	"golang.org/x/sys/unix"
)

// kernelMade reports whether an open file is of a file system whose files only look
// regular: /proc/kmsg waits for the kernel to say something.
func kernelMade(fd int) bool {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return true
	}
	return slices.Contains([]int64{unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC}, st.Type)
}
