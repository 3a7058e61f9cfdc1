// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import "errors"

// Resident is known on Linux only.
func Resident(int) (int64, error) { return 0, errors.ErrUnsupported }
