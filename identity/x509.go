// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/internal/secret"
)

// X509Options configures an X509 resolver. Both fields are required.
type X509Options struct {
	// Bundles verify the chains. A bundle that it returned must never be changed: a
	// change arrives as another *Bundle, as from Source.
	Bundles      x509bundle.Source
	TrustDomains []spiffeid.TrustDomain // whose callers are accepted
}

// X509 identifies callers by the X.509-SVID of their TLS client certificate. It
// verifies the chain itself, so that a listener which resumes a TLS session cannot
// skip it (MUST I3); possession of the key is what the handshake has proved. It
// implements Resolver.
type X509 struct{ options X509Options }

// NewX509 makes a resolver for a TLS listener that demands client certificates.
func NewX509(o X509Options) (*X509, error) {
	if o.Bundles == nil {
		return nil, errors.New("x509-svid: no source of bundles given")
	}
	if len(o.TrustDomains) == 0 {
		return nil, errors.New("x509-svid: no trust domain is allowed; list those whose callers are accepted")
	}
	o.TrustDomains = slices.Clone(o.TrustDomains)
	return &X509{options: o}, nil
}

// Resolve implements Resolver. Errors: ErrUnknown without a chain, ErrTrustDomain,
// ErrExpired, ErrUnavailable, ErrInvalid for every other flaw.
func (x *X509) Resolve(_ context.Context, p Peer) (Caller, error) {
	if len(p.Chain) == 0 {
		return nil, fmt.Errorf("%w: no client certificate", ErrUnknown)
	}
	id, err := x509svid.IDFromCert(p.Chain[0])
	if err != nil {
		return nil, fmt.Errorf("%w: client certificate: %w", ErrInvalid, err)
	}
	if err := acceptable(id, x.options.TrustDomains); err != nil {
		return nil, err
	}
	c := &x509Caller{id: id, chain: p.Chain, bundles: x.options.Bundles}
	bundle, err := c.bundles.GetX509BundleForTrustDomain(id.TrustDomain())
	if err != nil {
		return nil, orKnown(err, ErrInvalid)
	}
	now := c.verify(bundle, ErrInvalid)
	if now.err != nil {
		return nil, fmt.Errorf("client certificate of %q: %w", id, now.err)
	}
	c.last.Store(now)
	return c, nil
}

// acceptable says whether an ID may be a workload here at all, before anything costly
// is done for it. An ID without a path is the trust domain itself, never a workload.
func acceptable(id spiffeid.ID, allowed []spiffeid.TrustDomain) error {
	switch {
	case !slices.Contains(allowed, id.TrustDomain()):
		return fmt.Errorf("%w: %q", ErrTrustDomain, id.TrustDomain())
	case id.Path() == "":
		return fmt.Errorf("%w: %q names a trust domain, not a workload", ErrInvalid, id)
	}
	return nil
}

// orKnown wraps a bundle source's error: those that Resolver and Caller speak of stay,
// everything else becomes kind.
func orKnown(err, kind error) error {
	for _, known := range []error{ErrUnavailable, ErrRevoked, ErrTrustDomain} {
		if errors.Is(err, known) {
			return err
		}
	}
	return fmt.Errorf("%w: %w", kind, err)
}

// x509Caller is one connection.
type x509Caller struct {
	id      spiffeid.ID
	chain   []*x509.Certificate
	bundles x509bundle.Source
	last    atomic.Pointer[vouched]
}

// vouched is what one bundle said about the chain: an error, or until when it holds.
type vouched struct {
	bundle  *x509bundle.Bundle
	expires time.Time
	err     error
}

// Workload implements Caller. The chain is verified again only when the bundle is
// another one than last time; otherwise it costs two atomic loads and a look at the
// clock. Two requests that do so at once both verify, and store the same.
func (c *x509Caller) Workload() (Workload, error) {
	bundle, err := c.bundles.GetX509BundleForTrustDomain(c.id.TrustDomain())
	if err != nil {
		return Workload{}, orKnown(err, ErrRevoked)
	}
	now := c.last.Load()
	if now.bundle != bundle {
		now = c.verify(bundle, ErrRevoked)
		c.last.Store(now)
	}
	switch {
	case now.err != nil:
		return Workload{}, now.err
	case !time.Now().Before(now.expires):
		return Workload{}, fmt.Errorf("%w: client certificate ended at %s", ErrExpired, now.expires.UTC().Format(time.RFC3339))
	}
	return Workload{ID: c.id, Evidence: EvidenceX509SVID, Expires: now.expires}, nil
}

// verify verifies the chain against one bundle, which answers for its own trust domain
// only. A flaw is ErrExpired or else what the caller says.
func (c *x509Caller) verify(bundle *x509bundle.Bundle, flaw error) *vouched {
	_, chains, err := x509svid.Verify(c.chain, bundle)
	if err != nil {
		return &vouched{bundle: bundle, err: fmt.Errorf("%w: %w", kindOf(err, c.chain[0], flaw), err)}
	}
	v := &vouched{bundle: bundle}
	for _, chain := range chains {
		if end := firstEnd(chain); end.After(v.expires) {
			v.expires = end
		}
	}
	return v
}

// kindOf tells an ended leaf from every other flaw; an ended CA is not the caller's
// expiry but the bundle's word.
func kindOf(err error, leaf *x509.Certificate, flaw error) error {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired && !time.Now().Before(leaf.NotAfter) {
		return ErrExpired
	}
	return flaw
}

// firstEnd returns when the first certificate of a chain ends.
func firstEnd(chain []*x509.Certificate) time.Time {
	end := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// JWTSVID implements Caller: the caller's key is its own.
func (*x509Caller) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.Secret{}, time.Time{}, ErrNotHeld
}

// X509SVID implements Caller.
func (*x509Caller) X509SVID(context.Context) (tls.Certificate, error) {
	return tls.Certificate{}, ErrNotHeld
}
