// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package certs is egret's interception CA: it makes the off-line root and the
// name-constrained intermediates, and mints short-lived leaves for the hosts that
// policy lists. It never verifies an upstream and its roots never enter an upstream
// pool (MUST K4, T12).
//
// The parts, from the key that is hardest to reach to the one that is in use:
//
//   - RootDir and NewRoot: the off-line root, used by the command line only.
//   - CA.Intermediate: an intermediate for at most MaxNames hosts, with path length 0.
//   - FileIssuer and EphemeralIssuer: intermediates that sign for a running proxy.
//   - Authority: the leaf cache that a TLS handshake asks.
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

// Expirer is what an Issuer may also be. Expires is when the first of the hosts that
// it permits can no longer be signed for; an Authority exports it as
// egret_issuer_expiry_seconds.
type Expirer interface {
	Expires() time.Time
}

// Errors of issuing.
var (
	ErrNotPermitted = errors.New("no loaded intermediate permits this host")
	ErrExpired      = errors.New("the intermediate has expired")
	ErrBusy         = errors.New("too many new hosts at once") // rate limit on minting (MUST K3)
	ErrNotListed    = errors.New("the host is not listed by policy")
	ErrInvalidHost  = errors.New("not a canonical host name") // IP literals and upper case too
	ErrClosed       = errors.New("the authority is closed")
)

// Bounds of what this package signs and of what it accepts as an intermediate.
const (
	// MaxNames is how many permitted names one intermediate may carry. Every handshake
	// carries them: 1,000 names are 30 KB and 70 % more CPU, and Go's client refuses
	// 10,000 (MUST K2).
	MaxNames = 100
	// MaxLeafTTL bounds a leaf's whole validity, backdating included (MUST K1).
	MaxLeafTTL = 24 * time.Hour
	// MaxIntermediateTTL bounds an intermediate. The default is a day.
	MaxIntermediateTTL = 90 * 24 * time.Hour
	// MaxRootTTL bounds a root. The default is a year.
	MaxRootTTL = 2 * 366 * 24 * time.Hour
	// backdate is how far before now a certificate begins, for clients whose clock is
	// behind; at most five minutes (MUST K1).
	backdate = 4 * time.Minute

	defaultIntermediateTTL = 24 * time.Hour
	defaultRootTTL         = 365 * 24 * time.Hour
)
