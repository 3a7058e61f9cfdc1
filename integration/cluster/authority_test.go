// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"
)

// authority is the cluster's CA.
type authority struct {
	t    *testing.T
	n    *node
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority makes one, with the pair of keys that signs service accounts' tokens.
func newAuthority(n *node) *authority {
	n.t.Helper()
	a := &authority{t: n.t, n: n, key: newKey(n)}
	der := a.sign(&x509.Certificate{Subject: pkix.Name{CommonName: "cluster CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, &a.key.PublicKey)
	var err error
	a.cert, err = x509.ParseCertificate(der)
	n.must(err)
	n.write("pki/ca.pem", encode("CERTIFICATE", der))
	accounts := newKey(n)
	public, err := x509.MarshalPKIXPublicKey(&accounts.PublicKey)
	n.must(err)
	n.write("pki/accounts.pub", encode("PUBLIC KEY", public))
	a.writeKey("accounts", accounts)
	return a
}

// identity makes a client's certificate, with a server's names too where it has any.
func (a *authority) identity(name, user, group string, servers ...string) {
	a.t.Helper()
	c := &x509.Certificate{
		Subject: pkix.Name{CommonName: user}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	if group != "" {
		c.Subject.Organization = []string{group}
	}
	for _, s := range servers {
		if ip := net.ParseIP(s); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, s)
		}
	}
	key := newKey(a.n)
	a.n.write("pki/"+name+".pem", encode("CERTIFICATE", a.sign(c, &key.PublicKey)))
	a.writeKey(name, key)
	a.n.write("pki/"+name+".kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority: %[1]s/ca.pem}}]
users: [{name: u, user: {client-certificate: %[1]s/%[2]s.pem, client-key: %[1]s/%[2]s.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, a.n.file("pki"), name))
}

func (a *authority) writeKey(name string, key *ecdsa.PrivateKey) {
	a.t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	a.n.must(err)
	a.n.write("pki/"+name+".key", encode("EC PRIVATE KEY", der))
}

func (a *authority) sign(c *x509.Certificate, public *ecdsa.PublicKey) []byte {
	a.t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
	parent := a.cert
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	a.n.must(err)
	return der
}

func newKey(n *node) *ecdsa.PrivateKey {
	n.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	n.must(err)
	return key
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}
