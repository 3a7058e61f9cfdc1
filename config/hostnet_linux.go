// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"

	"golang.org/x/sys/unix"
)

// Inodes of the initial namespaces (enum init_ns_ino in include/uapi/linux/nsfs.h).
// That of the process namespace is old; that of the network namespace is fixed since
// Linux 6.18 and was allocated above 0xF0000000 before, so that it never means
// anything else.
const (
	initialPIDNamespace = 0xEFFFFFFC
	initialNetNamespace = 0xEFFFFFF9
)

// inHostNetwork reports whether this process is in the machine's initial network
// namespace, where every local user can reach its loopback listeners. Where it cannot
// tell, it says yes: I13 then asks for sameUser.
//
// It sees a pod with hostNetwork and a container with --network=host. It does not see
// a namespace that is not the initial one but shared by many users all the same (a
// system container, a container of several mutually distrusting processes): whoever
// runs egret there has to know.
func inHostNetwork() bool { return hostNetworkFrom("/proc") }

// hostNetworkFrom puts the facts together, strongest first:
//  1. our own namespace has the inode that only the initial one can have (6.18);
//  2. process 1 is the machine's own, because it is in the initial process namespace,
//     and may be looked at (needs CAP_SYS_PTRACE for most): same namespace or not;
//  3. net.core.netdev_max_backlog, which the kernel shows in the initial network
//     namespace only; net.core.somaxconn, which it shows in all, proves that looking
//     was possible.
func hostNetworkFrom(proc string) bool {
	own, ok := inode(proc + "/self/ns/net")
	if !ok || own == initialNetNamespace {
		return true
	}
	if pid, ok := inode(proc + "/1/ns/pid"); ok && pid == initialPIDNamespace {
		if first, ok := inode(proc + "/1/ns/net"); ok {
			return own == first
		}
	}
	return exists(proc+"/sys/net/core/netdev_max_backlog") || !exists(proc+"/sys/net/core/somaxconn")
}

func inode(name string) (ino uint64, ok bool) {
	var st unix.Stat_t
	if err := unix.Stat(name, &st); err != nil {
		return 0, false
	}
	return st.Ino, true
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}
