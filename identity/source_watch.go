// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// x509Watcher receives what the Workload API says about X.509. Only its stream's
// goroutine writes Source.x509.
type x509Watcher struct{ s *Source }

// OnX509ContextUpdate implements workloadapi.X509ContextWatcher.
func (w x509Watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	s := w.s
	next := &x509Answer{bundles: make(map[spiffeid.TrustDomain]*x509bundle.Bundle), ends: lastEnd(c.SVIDs)}
	next.svid, next.refused = s.pick(c.SVIDs)
	old := s.x509.Load()
	for _, b := range c.Bundles.Bundles() {
		if old != nil && b.Equal(old.bundles[b.TrustDomain()]) {
			b = old.bundles[b.TrustDomain()] // so that callers need not verify again
		}
		next.bundles[b.TrustDomain()] = b
	}
	s.x509.Store(next)
	s.markReady()
	s.logUp("x509", &s.x509Up)
	if next.refused != nil {
		s.options.Logger.Error("workload API gives egret no usable SVID", "error", next.refused)
		return
	}
	s.options.Logger.Info("workload API renewed egret's SVID", "id", next.svid.ID.String(), "expires", next.svid.Certificates[0].NotAfter)
}

// OnX509ContextWatchError implements workloadapi.X509ContextWatcher.
func (w x509Watcher) OnX509ContextWatchError(err error) {
	if status.Code(err) == codes.PermissionDenied {
		w.s.x509.Store(&x509Answer{refused: denied(err)})
	}
	w.s.logDown("x509", &w.s.x509Up, err)
}

func denied(err error) error {
	return fmt.Errorf("%w: the workload API issues nothing to egret (is its entry still there?): %w", ErrRevoked, err)
}

func lastEnd(svids []*x509svid.SVID) time.Time {
	var last time.Time
	for _, s := range svids {
		if end := s.Certificates[0].NotAfter; end.After(last) {
			last = end
		}
	}
	return last
}

// pick chooses egret's own SVID, strictly: what ID and Hint ask for, or the only one.
func (s *Source) pick(all []*x509svid.SVID) (*x509svid.SVID, error) {
	o := s.options
	left := slices.DeleteFunc(slices.Clone(all), func(svid *x509svid.SVID) bool {
		return !o.ID.IsZero() && svid.ID != o.ID || o.Hint != "" && svid.Hint != o.Hint
	})
	switch {
	case len(left) == 0:
		return nil, fmt.Errorf("%w: none of the %d SVIDs that the workload API returned has id %q and hint %q", ErrRevoked, len(all), o.ID, o.Hint)
	case len(left) > 1:
		return nil, fmt.Errorf("%w: the workload API returned %d SVIDs that could be egret's (%q, %q, …); select one by its id", ErrInvalid, len(left), left[0].ID, left[1].ID)
	case !slices.Contains(o.TrustDomains, left[0].ID.TrustDomain()):
		return nil, fmt.Errorf("%w: egret's own SVID is %q; add its trust domain to the allowed ones", ErrTrustDomain, left[0].ID)
	}
	return left[0], nil
}

// jwtWatcher receives what the Workload API says about JWT bundles. Only its stream's
// goroutine writes Source.jwt.
type jwtWatcher struct{ s *Source }

// OnJWTBundlesUpdate implements workloadapi.JWTBundleWatcher.
func (w jwtWatcher) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	next := &jwtAnswer{answered: true, bundles: make(map[spiffeid.TrustDomain]*jwtbundle.Bundle)}
	old := w.s.jwt.Load()
	for _, b := range set.Bundles() {
		if old != nil && b.Equal(old.bundles[b.TrustDomain()]) {
			b = old.bundles[b.TrustDomain()]
		}
		next.bundles[b.TrustDomain()] = b
	}
	w.s.jwt.Store(next)
	w.s.markReady()
	w.s.logUp("jwt", &w.s.jwtUp)
}

// OnJWTBundlesWatchError implements workloadapi.JWTBundleWatcher. An agent without the
// JWT-SVID profile has thereby answered.
func (w jwtWatcher) OnJWTBundlesWatchError(err error) {
	switch status.Code(err) {
	case codes.PermissionDenied:
		w.s.jwt.Store(&jwtAnswer{refused: denied(err)})
	case codes.Unimplemented:
		w.s.jwt.Store(&jwtAnswer{answered: true, refused: fmt.Errorf("%w: the workload API has no JWT-SVIDs", ErrUnavailable)})
		w.s.markReady()
	}
	w.s.logDown("jwt", &w.s.jwtUp, err)
}

// logUp and logDown log changes only; an agent that is away for an hour is two lines.
func (s *Source) logUp(stream string, up *atomic.Bool) {
	if !up.Swap(true) {
		s.options.Logger.Info("workload API answers", "stream", stream, "address", s.address)
	}
}

func (s *Source) logDown(stream string, up *atomic.Bool, err error) {
	if up.Swap(false) && status.Code(err) != codes.Canceled && !errors.Is(err, context.Canceled) {
		s.options.Logger.Warn("workload API does not answer; the last answer is kept until its SVID ends", "stream", stream, "address", s.address, "error", err)
	}
}

// persist calls watch again for as long as ctx lives: go-spiffe gives up on some
// errors (Canceled, InvalidArgument) that an agent in restart can produce.
func persist(ctx context.Context, watch func() error) {
	retry := jitteredBackoff{}.NewBackoff()
	for ctx.Err() == nil {
		_ = watch() // the watcher has been told
		select {
		case <-ctx.Done():
		case <-time.After(retry.Next()):
		}
	}
}

// jitteredBackoff doubles from firstRetry to lastRetry, each time by a random part
// between a half and the whole. It implements workloadapi.BackoffStrategy.
type jitteredBackoff struct{}

// NewBackoff implements workloadapi.BackoffStrategy.
func (jitteredBackoff) NewBackoff() workloadapi.Backoff { return &backoffState{next: firstRetry} }

type backoffState struct{ next time.Duration }

// Next implements workloadapi.Backoff.
func (b *backoffState) Next() time.Duration {
	d := b.next
	b.next = min(2*b.next, lastRetry)
	return d/2 + rand.N(d/2)
}

// Reset implements workloadapi.Backoff.
func (b *backoffState) Reset() { b.next = firstRetry }
