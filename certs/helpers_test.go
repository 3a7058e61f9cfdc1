// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"
	"time"
)

func newRoot(t testing.TB, domains ...string) *CA {
	t.Helper()
	root, err := NewRoot(RootOptions{Organization: "Acme", Domains: domains})
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newIntermediate(t testing.TB, root *CA, ttl time.Duration, hosts ...string) *CA {
	t.Helper()
	ca, err := root.Intermediate(IntermediateOptions{Hosts: hosts, TTL: ttl})
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// save writes the intermediate as `egret ca issue` does.
func save(t testing.TB, dir string, ca *CA) IssuerFile {
	t.Helper()
	f := IssuerFile{Chain: filepath.Join(dir, "chain.pem"), Key: filepath.Join(dir, "key.pem")}
	key, err := ca.EncodeKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(f.Key, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(f.Chain, ca.EncodeChain(), 0o644); err != nil {
		t.Fatal(err)
	}
	return f
}

// verify is what a Go client does with a presented chain.
func verify(root *x509.Certificate, host string, chain [][]byte) error {
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return err
	}
	for _, der := range chain[1:] {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		inter.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: inter})
	return err
}

// forge signs a leaf with a stolen CA key, without any of our checks.
func forge(t testing.TB, ca *CA, dns []string, ips []net.IP) [][]byte {
	t.Helper()
	return [][]byte{forgeFor(t, ca, forged{pub: newKey(t).Public(), dns: dns, ips: ips, ttl: time.Hour}), ca.cert.Raw}
}

type forged struct {
	pub crypto.PublicKey
	dns []string
	ips []net.IP
	ttl time.Duration
}

func forgeFor(t testing.TB, ca *CA, f forged) []byte {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: newSerial(), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(f.ttl),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: f.dns, IPAddresses: f.ips,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, ca.cert, f.pub, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func issue(t testing.TB, i Issuer, host string) [][]byte {
	t.Helper()
	chain, err := i.Issue(context.Background(), host, newKey(t).Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}
