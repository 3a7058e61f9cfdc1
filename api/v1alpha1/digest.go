// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

const (
	shortDigest      = 12 // hex digits: names a rule or a set in records
	generationDigest = 32 // hex digits: part of cache keys
)

// digestOf returns the first hex digits of the SHA-256 of the canonical JSON of parts.
// encoding/json writes fields in order and map keys sorted; none of the governed types
// can fail to encode.
func digestOf(digits int, parts ...any) string {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(parts); err != nil {
		return "" // not reached: strings, numbers, lists and maps of strings only
	}
	return hex.EncodeToString(h.Sum(nil))[:digits]
}

// digest names the whole set.
func (c *compiler) digest() string {
	parts := []any{c.opt.UnlistedTunnel, c.opt.MaxStream}
	for _, w := range inOrder(c.workloads) {
		parts = append(parts, KindWorkload, w.name, w.digest)
	}
	for _, d := range inOrder(c.destinations) {
		parts = append(parts, KindDestination, d.name, d.digest)
	}
	for _, x := range inOrder(c.credentials) {
		parts = append(parts, KindCredential, x.name, x.digest)
	}
	for _, p := range inOrder(c.policies) {
		parts = append(parts, KindAccessPolicy, p.name, p.digest)
	}
	return digestOf(shortDigest, parts...)
}
