// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package certs is egret's interception CA: it makes the off-line root and the
// name-constrained intermediates, and mints short-lived leaves for the hosts that
// policy lists. It never verifies an upstream and its roots never enter an upstream
// pool (MUST K4, T12).
package certs

import (
	"context"
	"crypto"
	"errors"
	"time"
)

// Issuer signs leaves. It is the seam behind which the intermediate's key may live
// in another process. Safe for concurrent use.
type Issuer interface {
	// Issue signs a leaf for exactly this host and this public key, at most ttl long
	// and never longer than the issuer itself. The chain is DER, leaf first, without
	// the root. ErrNotPermitted when no intermediate may name the host; ErrExpired
	// when the one that may has ended.
	Issue(ctx context.Context, host string, pub crypto.PublicKey, ttl time.Duration) (chain [][]byte, err error)
	// Permits reports whether a loaded intermediate may name the host.
	Permits(host string) bool
}

// Errors of issuing.
var (
	ErrNotPermitted = errors.New("no loaded intermediate permits this host")
	ErrExpired      = errors.New("the intermediate has expired")
	ErrBusy         = errors.New("too many new hosts at once") // rate limit on minting (MUST K3)
)
