// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package node

// monotonicMicros is only asked for by systemd.
func monotonicMicros() int64 { return 0 }
