// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

// TokenState is what an issuer knows about a token. The zero value refuses.
type TokenState int

// States of a token.
const (
	TokenUnknown TokenState = iota // never issued here
	TokenLive
	TokenExpired
	TokenRevoked
)

// Tokens answers whether a token is good. Implementations are safe for concurrent use.
type Tokens interface {
	// Valid returns the scopes of a live token; they are nil in every other state.
	Valid(token string) (scopes []string, state TokenState)
}

// Issuer issues opaque tokens and remembers them by digest only. It is the token
// store that an OAuth twin fills and that Slack and Qase ask.
type Issuer struct {
	now func() time.Time

	mu     sync.Mutex
	grants map[[sha256.Size]byte]*grant
}

type grant struct {
	scopes  []string
	expires time.Time // zero: never
	revoked bool
}

// NewIssuer returns an empty store that reads the time from now (time.Now if nil).
func NewIssuer(now func() time.Time) *Issuer {
	if now == nil {
		now = time.Now
	}
	return &Issuer{now: now, grants: map[[sha256.Size]byte]*grant{}}
}

// Issue makes a new random token of 260 bits. A lifetime of zero or less never ends.
func (i *Issuer) Issue(scopes []string, lifetime time.Duration) secret.Secret {
	token := secret.New(rand.Text() + rand.Text())
	i.Adopt(token, scopes, lifetime)
	return token
}

// Adopt accepts a token that was made elsewhere: a static API key. A lifetime of zero
// or less never ends. Adopting a token again replaces what was known about it.
func (i *Issuer) Adopt(token secret.Secret, scopes []string, lifetime time.Duration) {
	g := &grant{scopes: slices.Clone(scopes)}
	if lifetime > 0 {
		g.expires = i.now().Add(lifetime)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.grants[sha256.Sum256([]byte(token.Reveal()))] = g
}

// Valid implements Tokens. Revocation outlives expiry, as it does at Slack.
func (i *Issuer) Valid(token string) ([]string, TokenState) {
	i.mu.Lock()
	defer i.mu.Unlock()
	g := i.grants[sha256.Sum256([]byte(token))]
	switch {
	case g == nil:
		return nil, TokenUnknown
	case g.revoked:
		return nil, TokenRevoked
	case !g.expires.IsZero() && !i.now().Before(g.expires):
		return nil, TokenExpired
	}
	return slices.Clone(g.scopes), TokenLive
}

// Revoke ends a token now and reports whether it was known.
func (i *Issuer) Revoke(token secret.Secret) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	g := i.grants[sha256.Sum256([]byte(token.Reveal()))]
	if g != nil {
		g.revoked = true
	}
	return g != nil
}

// RevokeAll ends every token that is still live and returns how many that were. It is
// what an administrator does who does not hold the tokens.
func (i *Issuer) RevokeAll() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := 0
	for _, g := range i.grants {
		if !g.revoked && (g.expires.IsZero() || i.now().Before(g.expires)) {
			g.revoked = true
			n++
		}
	}
	return n
}
