// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// EphemeralOptions say what an EphemeralIssuer is for.
type EphemeralOptions struct {
	Hosts []string      // the destinations, "*.x" included; any number
	TTL   time.Duration // of the intermediates; default a day
}

// EphemeralIssuer is a whole CA that lives and dies with the process and is never
// written down: for laptops, CI runners and the demo. It holds the root's key, which
// MUST K6 forbids on a node that serves others. Safe for concurrent use.
//
// For each MaxNames hosts there is a root that permits these and nothing else.
type EphemeralIssuer struct {
	groups []group
	ttl    time.Duration
	mu     sync.Mutex // one renewal at a time
	now    atomic.Pointer[signers]
}

type group struct {
	root  *CA
	hosts []string
}

var (
	_ Issuer  = (*EphemeralIssuer)(nil)
	_ Expirer = (*EphemeralIssuer)(nil)
)

// NewEphemeralIssuer makes roots and intermediates for the hosts.
func NewEphemeralIssuer(opt EphemeralOptions) (*EphemeralIssuer, error) {
	names, err := constraintsOf(opt.Hosts)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, errors.New("an ephemeral CA needs at least one host")
	}
	ttl, err := lifetime(opt.TTL, defaultIntermediateTTL, MaxIntermediateTTL)
	if err != nil {
		return nil, fmt.Errorf("ephemeral CA: %w", err)
	}
	e := &EphemeralIssuer{ttl: ttl}
	for hosts := range slices.Chunk(names, MaxNames) {
		root, err := NewRoot(RootOptions{Organization: "egret (this process only)", Domains: hosts})
		if err != nil {
			return nil, err
		}
		e.groups = append(e.groups, group{root, hosts})
	}
	if err := e.renew(); err != nil {
		return nil, err
	}
	return e, nil
}

// Issue implements Issuer. It renews the intermediates once half of their life is over.
func (e *EphemeralIssuer) Issue(ctx context.Context, host string, pub crypto.PublicKey, ttl time.Duration) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := e.renewWhenDue(); err != nil {
		return nil, err
	}
	return e.now.Load().issue(host, pub, ttl)
}

// Permits implements Issuer.
func (e *EphemeralIssuer) Permits(host string) bool { return e.now.Load().find(host) != nil }

// Expires implements Expirer: the end of the roots, since the rest is renewed in time.
func (e *EphemeralIssuer) Expires() time.Time { return e.groups[0].root.cert.NotAfter }

// Roots returns the roots that clients must trust. They stay the same for the life of
// the process.
func (e *EphemeralIssuer) Roots() []*x509.Certificate { return e.now.Load().roots() }

// BundlePEM returns Roots as PEM: for the variables that add to a runtime's trust.
func (e *EphemeralIssuer) BundlePEM() []byte { return EncodeCertificates(e.Roots()...) }

// Authorities returns every CA certificate in use, for LoadUpstreamRoots to refuse.
func (e *EphemeralIssuer) Authorities() []*x509.Certificate { return e.now.Load().authorities() }

func (e *EphemeralIssuer) renewWhenDue() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if time.Until(e.now.Load().expires()) > e.ttl/2 {
		return nil
	}
	return e.renew()
}

func (e *EphemeralIssuer) renew() error {
	var all []*CA
	for _, g := range e.groups {
		ca, err := g.root.Intermediate(IntermediateOptions{Hosts: g.hosts, TTL: e.ttl})
		if err != nil {
			return err
		}
		all = append(all, ca)
	}
	e.now.Store(newSigners(all))
	return nil
}
