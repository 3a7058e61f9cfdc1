// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package delegate lets package process ask the embedded issuer, as it asks a SPIRE
// agent elsewhere: the same way of a caller, with no SPIRE.
package delegate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/internal/secret"
)

// Options of an Attestor.
type Options struct {
	// TCP: callers come over TCP too. Entries by group, path or digest are refused then:
	// another process of the caller's cgroup and user could answer for it.
	TCP bool
}

// Attestor attests by the entries of one server. It implements process.Attestor.
type Attestor struct{ server *embedded.Server }

// New makes an attestor.
func New(s *embedded.Server, o Options) (*Attestor, error) {
	if finer := s.Finer(); o.TCP && len(finer) > 0 {
		return nil, fmt.Errorf("embedded issuer: entry of %q is by gid, path or sha256, and the kernel knows a TCP caller by its cgroup and uid only; identify its callers on a unix socket, or write the entry by uid, cgroup or unit", finer[0].ID)
	}
	return &Attestor{s}, nil
}

func workload(r process.Reference) embedded.Workload {
	return embedded.Workload{Facts: r.Facts, Process: r.Process, Cgroup: r.Cgroup, Exact: r.Exact}
}

// Watch implements process.Attestor.
func (a *Attestor) Watch(ctx context.Context, r process.Reference, update func([]*x509svid.SVID) error) error {
	return a.server.Watch(ctx, workload(r), update)
}

// JWTSVID implements process.Attestor.
func (a *Attestor) JWTSVID(_ context.Context, r process.Reference, id spiffeid.ID, audience string) (secret.Secret, time.Time, error) {
	token, ends, err := a.server.JWTSVID(workload(r), id, audience)
	switch {
	case errors.Is(err, embedded.ErrDenied):
		err = fmt.Errorf("%w: %w", identity.ErrRevoked, err)
	case err != nil:
		err = fmt.Errorf("%w: %w", identity.ErrUnavailable, err)
	}
	return token, ends, err
}
