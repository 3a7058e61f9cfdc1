// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package spire

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	delegated "github.com/spiffe/spire-api-sdk/proto/spire/api/agent/delegatedidentity/v1"
	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/identity"
)

// Bundles are those of all trust domains that the agent tracks, its own and the
// federated ones. It implements x509bundle.Source and jwtbundle.Source without a lock; a
// bundle that it returned is never changed.
type Bundles struct {
	x509 atomic.Pointer[map[spiffeid.TrustDomain]*x509bundle.Bundle]
	jwt  atomic.Pointer[map[spiffeid.TrustDomain]*jwtbundle.Bundle]
}

// GetX509BundleForTrustDomain implements x509bundle.Source. ErrUnavailable before the
// first answer.
func (b *Bundles) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return find(b.x509.Load(), td)
}

// GetJWTBundleForTrustDomain implements jwtbundle.Source.
func (b *Bundles) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	return find(b.jwt.Load(), td)
}

func find[B any](all *map[spiffeid.TrustDomain]*B, td spiffeid.TrustDomain) (*B, error) {
	if all == nil {
		return nil, fmt.Errorf("%w: the agent has not sent its bundles yet", identity.ErrUnavailable)
	}
	if found := (*all)[td]; found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("the agent has no bundle of trust domain %q", td)
}

// WatchBundles keeps b up to date until ctx ends or the agent breaks off, and returns
// why; what is in b stays.
func (d *Delegated) WatchBundles(ctx context.Context, b *Bundles) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		stream, err := d.api.SubscribeToX509Bundles(ctx, &delegated.SubscribeToX509BundlesRequest{})
		if err != nil {
			return broken(ctx, err)
		}
		return watch(stream, func(err error) error { return broken(ctx, err) }, func(m *delegated.SubscribeToX509BundlesResponse) error {
			return keep(&b.x509, m.GetCaCertificates(), x509bundle.ParseRaw, (*x509bundle.Bundle).Equal)
		})
	})
	group.Go(func() error {
		stream, err := d.api.SubscribeToJWTBundles(ctx, &delegated.SubscribeToJWTBundlesRequest{})
		if err != nil {
			return broken(ctx, err)
		}
		return watch(stream, func(err error) error { return broken(ctx, err) }, func(m *delegated.SubscribeToJWTBundlesResponse) error {
			return keep(&b.jwt, m.GetBundles(), jwtbundle.Parse, (*jwtbundle.Bundle).Equal)
		})
	})
	return group.Wait()
}

// keep parses a whole answer, all or nothing. A bundle that is as before stays the same
// one, so that nobody need verify by it again.
func keep[B any](to *atomic.Pointer[map[spiffeid.TrustDomain]*B], raw map[string][]byte,
	parse func(spiffeid.TrustDomain, []byte) (*B, error), equal func(*B, *B) bool,
) error {
	var old map[spiffeid.TrustDomain]*B
	if p := to.Load(); p != nil {
		old = *p
	}
	next := make(map[spiffeid.TrustDomain]*B, len(raw))
	for name, content := range raw {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return fmt.Errorf("%w: bundle of trust domain %.200q: %w", identity.ErrInvalid, name, err)
		}
		bundle, err := parse(td, content)
		if err != nil {
			return fmt.Errorf("%w: bundle of trust domain %q: %w", identity.ErrInvalid, td, err)
		}
		if was := old[td]; was != nil && equal(was, bundle) {
			bundle = was
		}
		next[td] = bundle
	}
	to.Store(&next)
	return nil
}
