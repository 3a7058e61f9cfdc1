// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package ops

import "errors"

// peerOfFD refuses everybody where egret does not know how to ask.
func peerOfFD(int) (Peer, error) { return Peer{}, errors.ErrUnsupported }
