// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package embedded is a SPIFFE issuer inside the process: one trust domain with an
// in-memory CA, and the real Workload API on a unix socket in front of it. It stands
// in where there is no SPIRE (a laptop, a CI runner), so that everything behind the
// socket is the code that runs in production. It attests callers by what the kernel says
// about the process that connected, and forgets its keys when it ends itself; it is no
// SPIRE server.
package embedded

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Lifetimes that Options take where they say nothing. Those of the SVIDs are SPIRE's
// defaults.
const (
	DefaultX509TTL = time.Hour
	DefaultJWTTTL  = 5 * time.Minute
	DefaultCATTL   = 24 * time.Hour
)

// Options of an Issuer. Only TrustDomain is required.
type Options struct {
	TrustDomain spiffeid.TrustDomain
	X509TTL     time.Duration // life of an X.509-SVID; it is renewed at half of it; default 1h
	JWTTTL      time.Duration // life of a JWT-SVID; default 5m
	CATTL       time.Duration // life of a CA; it is rotated at half of it; default 24h
	JWTIssuer   string        // the iss claim; left out where empty
	// Shared lets every local user connect to the sockets. The entries say who gets what;
	// without it the sockets' modes admit the issuer's user and root only.
	Shared bool
	Logger *slog.Logger // default: nothing is logged
}

// Issuer is the authority of one trust domain. It is safe for concurrent use.
type Issuer struct {
	options Options
	current atomic.Pointer[authorities]

	mu      sync.Mutex           // serialises changes of current, and guards servers
	servers map[*Server]struct{} // those that serve now
}

// authorities is one immutable state of the trust domain: what signs, and what
// verifies. changed is closed when the next state has taken its place.
type authorities struct {
	signer  *authority
	x509    *x509bundle.Bundle
	jwt     *jwtbundle.Bundle
	foreign []Federated
	changed chan struct{}
}

// Federated are the bundles of another trust domain.
type Federated struct {
	X509 *x509bundle.Bundle
	JWT  *jwtbundle.Bundle // nil: none
}

// New makes an issuer with a fresh CA and a fresh JWT key.
func New(o Options) (*Issuer, error) {
	if o.TrustDomain.IsZero() {
		return nil, errors.New("embedded issuer: no trust domain given; name one, such as \"laptop.example\"")
	}
	o.X509TTL = orDefault(o.X509TTL, DefaultX509TTL)
	o.JWTTTL = orDefault(o.JWTTTL, DefaultJWTTTL)
	o.CATTL = orDefault(o.CATTL, DefaultCATTL)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	i := &Issuer{options: o, servers: make(map[*Server]struct{})}
	if err := i.Rotate(); err != nil {
		return nil, err
	}
	return i, nil
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// TrustDomain returns the trust domain of the issuer.
func (i *Issuer) TrustDomain() spiffeid.TrustDomain { return i.options.TrustDomain }

// Rotate makes a new CA and a new JWT key, and tells every stream. The previous ones
// stay in the bundles so that what they signed goes on being accepted; those before
// them leave. Two calls in a row therefore revoke everything that was issued before.
// It is called at half the CA's life by itself.
func (i *Issuer) Rotate() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.rotateLocked()
}

func (i *Issuer) rotateLocked() error {
	next, err := newAuthority(i.options.TrustDomain, i.options.CATTL)
	if err != nil {
		return fmt.Errorf("embedded issuer: new authority: %w", err)
	}
	old := i.current.Load()
	i.current.Store(newAuthorities(next, old))
	if old != nil {
		close(old.changed)
		i.options.Logger.Info("embedded issuer rotated its keys", "trust_domain", i.options.TrustDomain.Name(), "kid", next.kid)
	}
	return nil
}

func newAuthorities(next *authority, old *authorities) *authorities {
	td := next.id.TrustDomain()
	a := &authorities{
		signer:  next,
		x509:    x509bundle.FromX509Authorities(td, []*x509.Certificate{next.cert}),
		jwt:     jwtbundle.New(td),
		changed: make(chan struct{}),
	}
	_ = a.jwt.AddJWTAuthority(next.kid, next.jwtKey.Public()) // fails only without a key id
	if old != nil {
		a.foreign = old.foreign
		a.x509.AddX509Authority(old.signer.cert)
		_ = a.jwt.AddJWTAuthority(old.signer.kid, old.signer.jwtKey.Public())
	}
	return a
}

// authorities returns the state to sign with, rotated when the CA is past half its
// life: whoever signs drives the rotation, so an idle issuer needs no timer.
func (i *Issuer) authorities() (*authorities, error) {
	if a := i.current.Load(); !a.signer.old() {
		return a, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current.Load().signer.old() {
		if err := i.rotateLocked(); err != nil {
			return nil, err
		}
	}
	return i.current.Load(), nil
}

// Federate replaces the bundles of other trust domains, which every workload is given to
// verify their SVIDs by, and tells every stream. The bundles must not be changed after.
func (i *Issuer) Federate(list ...Federated) error {
	for _, f := range list {
		switch {
		case f.X509 == nil:
			return errors.New("embedded issuer: a federated trust domain needs an X.509 bundle")
		case f.X509.TrustDomain() == i.options.TrustDomain || f.JWT != nil && f.JWT.TrustDomain() != f.X509.TrustDomain():
			return fmt.Errorf("embedded issuer: bundle of trust domain %q, must be of another one than %q, and X.509 and JWT of the same", f.X509.TrustDomain(), i.options.TrustDomain)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	old := i.current.Load()
	i.current.Store(&authorities{signer: old.signer, x509: old.x509, jwt: old.jwt, foreign: slices.Clone(list), changed: make(chan struct{})})
	close(old.changed)
	return nil
}

// RemoveEntry takes the entry of id away on every socket, at once: open streams end
// with PermissionDenied unless another entry is left for their caller. It reports
// whether there was one. What has been issued stays valid until it ends.
func (i *Issuer) RemoveEntry(id spiffeid.ID) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	found := false
	for s := range i.servers {
		found = s.entries.remove(id) || found
	}
	return found
}

// Bundles is the live view of an issuer's bundles, for verifiers in the same process.
// It implements x509bundle.Source and jwtbundle.Source without a lock. A bundle that
// it returned is never changed: a rotation arrives as another one.
type Bundles struct{ issuer *Issuer }

// Bundles returns the live view.
func (i *Issuer) Bundles() Bundles { return Bundles{i} }

// GetX509BundleForTrustDomain implements x509bundle.Source.
func (b Bundles) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if td != b.issuer.options.TrustDomain {
		return nil, fmt.Errorf("embedded issuer: no X.509 bundle of trust domain %q", td)
	}
	return b.issuer.current.Load().x509, nil
}

// GetJWTBundleForTrustDomain implements jwtbundle.Source.
func (b Bundles) GetJWTBundleForTrustDomain(td spiffeid.TrustDomain) (*jwtbundle.Bundle, error) {
	if td != b.issuer.options.TrustDomain {
		return nil, fmt.Errorf("embedded issuer: no JWT bundle of trust domain %q", td)
	}
	return b.issuer.current.Load().jwt, nil
}
