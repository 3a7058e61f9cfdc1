// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

// signers is an immutable set of intermediates, found by the host that they permit.
type signers struct {
	all    []*CA
	byName map[string]*CA // per permitted name, the CA that lives longest
}

func newSigners(all []*CA) *signers {
	s := &signers{all: all, byName: make(map[string]*CA)}
	for _, ca := range all {
		for _, name := range ca.cert.PermittedDNSDomains {
			if old := s.byName[name]; old == nil || old.cert.NotAfter.Before(ca.cert.NotAfter) {
				s.byName[name] = ca
			}
		}
	}
	return s
}

// find returns the intermediate that permits the host and lives longest, or nil. It
// costs a look-up per label, however many intermediates there are.
func (s *signers) find(host string) *CA {
	var best *CA
	for name := range parents(host) {
		if ca := s.byName[name]; ca != nil && (best == nil || best.cert.NotAfter.Before(ca.cert.NotAfter)) {
			best = ca
		}
	}
	return best
}

// issue signs a leaf and returns the chain to send: leaf first, without the root.
func (s *signers) issue(host string, pub crypto.PublicKey, ttl time.Duration) ([][]byte, error) {
	if err := checkHost(host); err != nil {
		return nil, err
	}
	ca := s.find(host)
	if ca == nil {
		return nil, fmt.Errorf("%w: %q", ErrNotPermitted, host)
	}
	leaf, err := ca.leaf(host, pub, ttl)
	if err != nil {
		return nil, err // the authority says of which host
	}
	chain := [][]byte{leaf}
	for _, c := range ca.Chain() {
		if !selfIssued(c) {
			chain = append(chain, c.Raw)
		}
	}
	return chain, nil
}

// expires is when the first permitted name loses its last intermediate.
func (s *signers) expires() time.Time {
	var first time.Time
	for _, ca := range s.byName {
		if first.IsZero() || ca.cert.NotAfter.Before(first) {
			first = ca.cert.NotAfter
		}
	}
	return first
}

// roots returns the roots that the chain files hold, each once.
func (s *signers) roots() []*x509.Certificate {
	var list []*x509.Certificate
	for _, ca := range s.all {
		if r := ca.Root(); r != nil && !slices.ContainsFunc(list, r.Equal) {
			list = append(list, r)
		}
	}
	return list
}

// authorities returns every CA certificate of the set, for the check of upstream pools.
func (s *signers) authorities() []*x509.Certificate {
	var list []*x509.Certificate
	for _, ca := range s.all {
		list = append(list, ca.Chain()...)
	}
	return list
}

// checkIntermediate holds MUST K2 for an intermediate that somebody else made: the
// signer decides the constraints, and egret refuses to run with weaker ones (K6).
func checkIntermediate(c *x509.Certificate) error {
	switch {
	case selfIssued(c):
		return fmt.Errorf("%q is a root: a root's key stays off the machine that serves (make an intermediate: egret ca issue)", c.Subject)
	case !c.IsCA || c.KeyUsage&x509.KeyUsageCertSign == 0:
		return fmt.Errorf("%q may not sign certificates", c.Subject)
	case c.MaxPathLen != 0 || !c.MaxPathLenZero:
		return fmt.Errorf("%q has no path length of 0: it could make further CAs", c.Subject)
	case len(c.ExtKeyUsage) != 1 || c.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth || len(c.UnknownExtKeyUsage) > 0:
		return fmt.Errorf("%q is not for TLS servers only (extended key usage serverAuth)", c.Subject)
	}
	return checkConstraints(c)
}

func checkConstraints(c *x509.Certificate) error {
	switch n := len(c.PermittedDNSDomains); {
	case n == 0 || !c.PermittedDNSDomainsCritical:
		return fmt.Errorf("%q has no critical name constraints: its key could speak for any host", c.Subject)
	case n > MaxNames:
		return fmt.Errorf("%q permits %d names, at most %d are allowed (make several: egret ca issue)", c.Subject, n, MaxNames)
	case !excludes(c, net.IPv4zero.To4()) || !excludes(c, net.IPv6zero):
		return fmt.Errorf("%q does not exclude all IP addresses (0.0.0.0/0 and ::/0)", c.Subject)
	}
	for _, name := range c.PermittedDNSDomains {
		if strings.HasPrefix(name, ".") {
			return fmt.Errorf("%q permits %q: write it without the leading dot, which clients read differently", c.Subject, name)
		}
	}
	return nil
}

// excludes reports whether the whole address family of zero is excluded.
func excludes(c *x509.Certificate, zero net.IP) bool {
	return slices.ContainsFunc(c.ExcludedIPRanges, func(r *net.IPNet) bool {
		ones, bits := r.Mask.Size()
		return ones == 0 && bits == 8*len(zero)
	})
}
