// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/internal/secret"
)

// SidecarOptions narrows who may use egret's own identity.
type SidecarOptions struct {
	// SameUser accepts only connections of processes with egret's own effective uid, as
	// the kernel says. Where the listener collects no such facts, nobody is accepted.
	SameUser bool
}

// Sidecar credits every caller with egret's own SVID: the kernel keeps the pod's
// loopback private to the pod, so whoever reaches the listener is in the pod. It looks
// at nothing that a caller can choose. It implements Resolver.
type Sidecar struct {
	source  *Source
	options SidecarOptions
	uid     uint32
}

// NewSidecar makes a resolver for callers in egret's own network namespace.
func NewSidecar(s *Source, o SidecarOptions) *Sidecar {
	return &Sidecar{source: s, options: o, uid: uint32(os.Geteuid())}
}

// Resolve implements Resolver. Besides ErrUnknown it returns the errors of Source.SVID.
func (s *Sidecar) Resolve(_ context.Context, p Peer) (Caller, error) {
	if s.options.SameUser {
		if p.Proc == nil {
			return nil, fmt.Errorf("%w: the kernel's facts about the caller's process are missing, and only processes of uid %d are accepted", ErrUnknown, s.uid)
		}
		if p.Proc.UID != s.uid {
			return nil, fmt.Errorf("%w: the caller's process has uid %d, only %d is accepted", ErrUnknown, p.Proc.UID, s.uid)
		}
	}
	svid, err := s.source.SVID()
	if err != nil {
		return nil, err
	}
	return &sidecarCaller{source: s.source, id: svid.ID}, nil
}

// sidecarCaller is one connection. Its identity is that of egret's SVID at the start;
// the SVID may be renewed under it, but not become another's.
type sidecarCaller struct {
	source *Source
	id     spiffeid.ID
}

// Workload implements Caller.
func (c *sidecarCaller) Workload() (Workload, error) {
	svid, err := c.source.SVID()
	if err != nil {
		return Workload{}, err
	}
	if svid.ID != c.id {
		return Workload{}, c.changed(svid.ID)
	}
	return Workload{ID: c.id, Evidence: EvidenceSidecar, Expires: svid.Certificates[0].NotAfter}, nil
}

func (c *sidecarCaller) changed(now spiffeid.ID) error {
	return fmt.Errorf("%w: egret was %q when the connection came in and is %q now", ErrRevoked, c.id, now)
}

// JWTSVID implements Caller.
func (c *sidecarCaller) JWTSVID(ctx context.Context, audience string) (secret.Secret, time.Time, error) {
	if _, err := c.Workload(); err != nil {
		return secret.Secret{}, time.Time{}, err
	}
	return c.source.FetchJWTSVID(ctx, audience)
}

// X509SVID implements Caller.
func (c *sidecarCaller) X509SVID(context.Context) (tls.Certificate, error) {
	svid, err := c.source.SVID()
	if err != nil {
		return tls.Certificate{}, err
	}
	if svid.ID != c.id {
		return tls.Certificate{}, c.changed(svid.ID)
	}
	cert := tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
	for _, der := range svid.Certificates {
		cert.Certificate = append(cert.Certificate, der.Raw)
	}
	return cert, nil
}
