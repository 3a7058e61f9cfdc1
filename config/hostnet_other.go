// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package config

// inHostNetwork is always true where there are no network namespaces.
func inHostNetwork() bool { return true }
