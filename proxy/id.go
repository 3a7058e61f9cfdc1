// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import "math/rand/v2"

// idAlphabet has no characters that are mistaken for each other.
const idAlphabet = "abcdefghijkmnpqrstuvwxyz23456789"

// newID returns a request id: 80 random bits, 16 lower-case characters that can be read
// aloud and grepped. It is a name and no secret, whence a generator that asks the kernel
// once; nobody can tell the next one all the same (ChaCha8).
func newID() string {
	var id [16]byte
	for half := range 2 {
		bits := rand.Uint64()
		for i := range 8 {
			id[8*half+i] = idAlphabet[bits&31]
			bits >>= 5
		}
	}
	return string(id[:])
}
