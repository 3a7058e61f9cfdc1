// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package steer tests node mode with the binary as it is built: one egret run without any
// capability, egret steer beside it, and pods that are network namespaces with programs
// that know of no proxy. Build tag: integration. It needs root.
package steer
