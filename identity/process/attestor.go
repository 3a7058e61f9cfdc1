// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package process identifies callers on this machine by what the kernel says about
// their sockets. For TCP that is (cgroup, uid) of the socket's creator, and an attestor
// is asked about a process of that cgroup and uid; for unix sockets it is the very
// process that connected. Which identity that process has is the attestor's word, never
// the caller's: a SPIRE agent's (package spire) or the embedded issuer's (package
// delegate).
package process

import (
	"context"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/internal/secret"
)

// Reference names a workload to an attestor.
type Reference struct {
	// Process is held for as long as the attestor is asked. Where Exact is false it is
	// one of the cgroup's processes with the socket's uid, and what tells it from the
	// others of them (its program, its group) is nothing that the caller is known by.
	Process *kernel.Process
	Facts   kernel.Facts
	Exact   bool
	Cgroup  string // path in the v2 hierarchy; empty where unknown
	PodUID  string // of the Kubernetes pod that the cgroup belongs to; empty where none
}

// Attestor says which identities a workload has, and issues them on its behalf. It must
// be safe for concurrent use. Errors: identity.ErrGone when it finds no such process or
// pod, identity.ErrRevoked when it denies, identity.ErrUnavailable when it cannot be
// asked, identity.ErrUnknown when the reference lacks what it needs.
type Attestor interface {
	// Watch calls update with every answer until ctx ends or the attestor breaks off, and
	// returns why. An answer without SVIDs means that the workload is entitled to none.
	// update is called from the goroutine of Watch. It returns an error when the answer is
	// of no use any more; Watch ends with it.
	Watch(ctx context.Context, r Reference, update func([]*x509svid.SVID) error) error
	// JWTSVID returns a JWT-SVID of id, which must be one of the workload's, for exactly
	// one audience.
	JWTSVID(ctx context.Context, r Reference, id spiffeid.ID, audience string) (secret.Secret, time.Time, error)
}
