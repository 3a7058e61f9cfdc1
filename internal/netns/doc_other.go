// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

// Package netns is empty on this system, which has no network namespaces.
package netns
