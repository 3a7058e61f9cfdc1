// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package redirect

import "errors"

// Privileged says that there is nothing to change here.
func Privileged() error {
	return errors.New("connections are redirected on Linux only")
}
