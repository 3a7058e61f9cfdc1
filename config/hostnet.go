// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

// HostNetwork reports whether this process is in the machine's initial network
// namespace, where every local user can reach its loopback listeners, or cannot tell.
func HostNetwork() bool { return inHostNetwork() }
