// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// leaf is a cached certificate and when to renew it.
type leaf struct {
	cert *tls.Certificate
	half time.Time    // from here on it is renewed
	late time.Time    // from here on a caller waits for the renewal
	next atomic.Int64 // Unix nanoseconds of the next attempt to renew
}

func newLeaf(cert *tls.Certificate) *leaf {
	now := time.Now()
	life := cert.Leaf.NotAfter.Sub(now)
	return &leaf{cert: cert, half: now.Add(life / 2), late: now.Add(life - life/4)}
}

// due reports whether this caller is the one to start a renewal.
func (l *leaf) due(now time.Time) bool {
	if now.Before(l.half) {
		return false
	}
	next := l.next.Load()
	return now.UnixNano() >= next && l.next.CompareAndSwap(next, now.Add(renewPause).UnixNano())
}

// checkLeaf holds MUST K1 for an issuer in another process as well.
func checkLeaf(chain [][]byte, host string, pub crypto.PublicKey) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	cert, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, err
	}
	switch {
	case !samePublicKey(cert.PublicKey, pub):
		return nil, errors.New("it is for another key")
	case cert.IsCA:
		return nil, errors.New("it is a CA")
	case !slices.Equal(cert.DNSNames, []string{host}) || len(cert.IPAddresses)+len(cert.URIs)+len(cert.EmailAddresses) > 0:
		return nil, fmt.Errorf("it names %q", cert.DNSNames)
	case cert.NotAfter.Sub(cert.NotBefore) > MaxLeafTTL:
		return nil, fmt.Errorf("it lives longer than %s", MaxLeafTTL)
	case !time.Now().Before(cert.NotAfter):
		return nil, ErrExpired
	}
	return cert, nil
}
