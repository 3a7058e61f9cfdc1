// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"strings"
	"time"
)

// CA is a root or an intermediate with its key. It is immutable and safe for
// concurrent use.
type CA struct {
	cert  *x509.Certificate
	key   crypto.Signer
	above []*x509.Certificate // the certificates from this one's issuer up to the root
}

// RootOptions say what a root is for.
type RootOptions struct {
	Organization string        // the subject's O; "egret" when empty
	Domains      []string      // the organisation-level domains that intermediates may stay within, at least one
	TTL          time.Duration // default one year, at most MaxRootTTL
}

// IntermediateOptions say what an intermediate is for.
type IntermediateOptions struct {
	// Hosts are the destinations' hosts, 1 to MaxNames. A name constraint is a subtree
	// (RFC 5280 §4.2.1.10): both "x" and "*.x" permit x and everything below it.
	Hosts []string
	TTL   time.Duration // default a day, at most MaxIntermediateTTL, capped by the root's end
}

// NewRoot makes a root: ECDSA P-256, of its own serial number and name, constrained
// (critical) to the domains and to no IP address. Where a client ignores constraints
// on a trust anchor, as Java does, those of the intermediate still hold.
func NewRoot(opt RootOptions) (*CA, error) {
	names, err := constraintsOf(opt.Domains)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 || len(names) > MaxNames {
		return nil, fmt.Errorf("a root needs 1 to %d domains, got %d", MaxNames, len(names))
	}
	ttl, err := lifetime(opt.TTL, defaultRootTTL, MaxRootTTL)
	if err != nil {
		return nil, fmt.Errorf("root: %w", err)
	}
	tmpl := caTemplate("root", opt.Organization, names)
	tmpl.MaxPathLen = 1
	tmpl.NotAfter = time.Now().Add(ttl)
	return signCA(tmpl, nil)
}

// Intermediate makes an intermediate with its own key: path length 0, for TLS servers
// only, constrained (critical) to the given hosts and to no IP address. Every host must
// be within the domains of the root.
func (c *CA) Intermediate(opt IntermediateOptions) (*CA, error) {
	names, err := c.intermediateNames(opt.Hosts)
	if err != nil {
		return nil, err
	}
	ttl, err := lifetime(opt.TTL, defaultIntermediateTTL, MaxIntermediateTTL)
	if err != nil {
		return nil, fmt.Errorf("intermediate: %w", err)
	}
	end := earlier(time.Now().Add(ttl), c.cert.NotAfter)
	if !time.Now().Before(end) {
		return nil, fmt.Errorf("the root ended at %s (make a new one with: egret ca rotate)", c.cert.NotAfter.Format(time.RFC3339))
	}
	tmpl := caTemplate("intermediate", strings.Join(c.cert.Subject.Organization, " "), names)
	tmpl.MaxPathLenZero = true
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	tmpl.NotAfter = end
	return signCA(tmpl, c)
}

// Certificate returns the CA's own certificate. It must not be changed.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// Root returns the root above this CA, or itself. Nil when it was read from a file
// that does not hold the root.
func (c *CA) Root() *x509.Certificate {
	chain := c.Chain()
	if last := chain[len(chain)-1]; selfIssued(last) {
		return last
	}
	return nil
}

// Chain returns the CA's certificate and those above it, the root last.
func (c *CA) Chain() []*x509.Certificate {
	return append([]*x509.Certificate{c.cert}, c.above...)
}

func (c *CA) intermediateNames(hosts []string) ([]string, error) {
	names, err := constraintsOf(hosts)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 || len(names) > MaxNames {
		return nil, fmt.Errorf("an intermediate permits 1 to %d names, got %d (make several)", MaxNames, len(names))
	}
	var faults []error
	for _, n := range names {
		if !covered(c.cert.PermittedDNSDomains, n) {
			faults = append(faults, fmt.Errorf("%q is outside the root's domains %q (a root for more domains: egret ca rotate --domains)",
				n, c.cert.PermittedDNSDomains))
		}
	}
	return names, errors.Join(faults...)
}

// caTemplate is what roots and intermediates share. The constraints stand for every
// certificate below: permitted DNS names, and no IP address at all.
func caTemplate(kind, organization string, names []string) *x509.Certificate {
	serial := newSerial()
	if organization == "" {
		organization = "egret"
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject: pkix.Name{
			Organization: []string{organization},
			CommonName:   "egret " + kind + " " + hex.EncodeToString(serial.Bytes()[:4]), // unique, so that old and new differ in a trust store
		},
		NotBefore:                   time.Now().Add(-backdate),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         names,
		ExcludedIPRanges:            allIPs(),
		ExtraExtensions:             []pkix.Extension{markerExtension()},
	}
}

// signCA gives the template a key of its own and has it signed by the parent, or by
// itself.
func signCA(tmpl *x509.Certificate, parent *CA) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a CA key: %w", err)
	}
	issuer, signer, above := tmpl, crypto.Signer(key), []*x509.Certificate(nil)
	if parent != nil {
		issuer, signer, above = parent.cert, parent.key, parent.Chain()
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, issuer, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("sign a CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the new CA certificate: %w", err)
	}
	return &CA{cert: cert, key: key, above: above}, nil
}

// leaf signs a leaf for the host: its name is the one SAN, there is no subject, and it
// ends at the latest with the CA (MUST K1).
func (c *CA) leaf(host string, pub crypto.PublicKey, ttl time.Duration) ([]byte, error) {
	now := time.Now()
	begin := now.Add(-backdate)
	if ttl <= 0 || ttl > MaxLeafTTL {
		ttl = MaxLeafTTL
	}
	end := earlier(earlier(now.Add(ttl), begin.Add(MaxLeafTTL)), c.cert.NotAfter)
	if !now.Before(end) {
		return nil, fmt.Errorf("%w at %s", ErrExpired, c.cert.NotAfter.Format(time.RFC3339))
	}
	tmpl := &x509.Certificate{
		SerialNumber:          newSerial(),
		NotBefore:             begin,
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{host},
	}
	return x509.CreateCertificate(rand.Reader, tmpl, c.cert, pub, c.key)
}

// newSerial returns a positive number of 16 octets, of which 126 bits are random.
func newSerial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	b[0] = b[0]&0x7f | 0x40
	return new(big.Int).SetBytes(b)
}

func allIPs() []*net.IPNet {
	return []*net.IPNet{
		{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
		{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)},
	}
}

func lifetime(ttl, byDefault, most time.Duration) (time.Duration, error) {
	if ttl == 0 {
		return byDefault, nil
	}
	if ttl < 0 || ttl > most {
		return 0, fmt.Errorf("a lifetime of %s is not within 0 and %s", ttl, most)
	}
	return ttl, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
