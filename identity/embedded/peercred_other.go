// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package embedded

import "errors"

func uidOfPeer(int) (uint32, error) { return 0, errors.ErrUnsupported }
