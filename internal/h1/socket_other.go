// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package h1

const canTry = false

func (s *Socket) read(uintptr) bool { return true }
