// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package rotation keeps a refresh token that works only once. All replicas of egret that
// share it see one state in a Store and change it only under a Lease, so that the token
// has one writer at a time; all others read the access token and nothing else (MUST C6,
// C14). What a writer is about to do is stored before it is done: a crash at any moment
// leaves a state from which the next one knows what may have happened.
package rotation

import (
	"context"
	"errors"
	"time"

	"github.com/egret-proxy/egret/internal/secret"
)

// State is what is shared. The zero State is that of a token that was never set up.
type State struct {
	Refresh  secret.Secret // the next one; works once
	Access   secret.Secret // zero before the first rotation
	Obtained time.Time     // when Access was asked for
	Expires  time.Time     // of Access

	// Asked is when the issuer was asked with Refresh. While it is set the answer is not
	// known: Refresh may be spent already, and what it gave lost.
	Asked time.Time
	// Spent: the issuer has refused Refresh. Only a person can go on.
	Spent bool
}

// Store holds the State of one token. Several processes use it at once; methods are safe
// for concurrent use.
type Store interface {
	// Load returns what the last Save has stored, or what a person has put there.
	Load(ctx context.Context) (State, error)
	// Save replaces the State as a whole. When it returns nil, a power cut does not undo
	// it; when it fails, the old State is still there.
	Save(ctx context.Context, s State) error
}

// Lease is held by one process at a time.
type Lease interface {
	// Acquire waits for the lease until ctx ends. It is held for at least LeaseTime, or
	// until release is called or the process ends.
	Acquire(ctx context.Context) (release func(), err error)
}

// LeaseTime is longer than any use of a lease. Who holds one for longer is dead.
const LeaseTime = 30 * time.Second

// Outcomes that an Asker can be sure of: its error wraps one of them. Any other error
// leaves open whether the refresh token is spent.
var (
	// ErrUntouched: the issuer has not used the refresh token.
	ErrUntouched = errors.New("the refresh token is not used up")
	// ErrSpent: the issuer refuses the refresh token itself.
	ErrSpent = errors.New("the refresh token is refused")
)

// Grant is what a refresh token is exchanged for.
type Grant struct {
	Access   secret.Secret
	Refresh  secret.Secret // zero: the old one works on
	Lifetime time.Duration // of Access; zero: not told
}

const (
	freshPart  = 0.65             // of its life an access token is not replaced
	lastChance = time.Minute      // before its end, when there is little left to lose
	margin     = 10 * time.Second // before its end an access token is not handed out
)

// fresh reports an access token that needs no successor yet.
func (s *State) fresh(now time.Time) bool {
	life := s.Expires.Sub(s.Obtained)
	return !s.Access.IsZero() && now.Before(s.Obtained.Add(time.Duration(freshPart*float64(life)))) && !now.Before(s.Obtained.Add(-time.Minute))
}

// alive reports an access token that can still be used for at least d.
func (s *State) alive(now time.Time, d time.Duration) bool {
	return !s.Access.IsZero() && now.Before(s.Expires.Add(-d))
}
