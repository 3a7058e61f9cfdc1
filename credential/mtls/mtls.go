// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package mtls is the provider whose credential is a client certificate: the workload's
// own X.509-SVID, which the proxy presents to a destination that demands one. The private
// key stays in egret. Connections are kept apart by the certificate, so that none is
// shared between workloads or outlives a rotation for new requests.
package mtls

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/egret-proxy/egret/credential"
)

// Provider implements credential.Provider. Safe for concurrent use.
type Provider struct{}

// New makes one: there is nothing to set.
func New() *Provider { return &Provider{} }

// Fetch implements credential.Provider. Unconfigured: there is no caller whose SVID egret
// holds. Unreachable: the agent gives none. Expired or NotMinted: what it gives is of no
// use. The lifetime ends with the certificate; the agent has another one long before.
func (*Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	if s == nil {
		return credential.Token{}, fail(credential.Unconfigured, errors.New("needs the caller's X.509-SVID, and egret does not hold one"))
	}
	cert, err := s.X509SVID(ctx)
	if err != nil {
		return credential.Token{}, credential.OfSubject("X.509-SVID", err)
	}
	if len(cert.Certificate) == 0 || cert.PrivateKey == nil {
		return credential.Token{}, fail(credential.NotMinted, errors.New("X.509-SVID: no certificate or no key"))
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return credential.Token{}, fail(credential.NotMinted, errors.New("X.509-SVID: the certificate cannot be read"))
	}
	left := time.Until(leaf.NotAfter)
	if left <= 0 {
		return credential.Token{}, fail(credential.Expired, fmt.Errorf("X.509-SVID: ended at %s", leaf.NotAfter.UTC().Format(time.RFC3339)))
	}
	cert.Leaf = leaf
	return credential.Token{Certificate: &cert, Lifetime: left, Fingerprint: fingerprint(leaf)}, nil
}

// fingerprint is the start of what openssl x509 -fingerprint -sha256 prints.
func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return "sha256:" + hex.EncodeToString(sum[:6])
}

func fail(k credential.Kind, err error) *credential.Error {
	return &credential.Error{Kind: k, Err: err}
}
