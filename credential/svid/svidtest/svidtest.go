// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package svidtest is a trust domain for tests: it signs real JWT-SVIDs and X.509-SVIDs,
// and verifies JWT-SVIDs by its JWKS as a relying party does.
package svidtest

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/egret-proxy/egret/internal/secret"
)

// Issuer is what the tokens of every Domain say in iss.
const Issuer = "https://spire.acme.example"

// Domain signs for a trust domain. Safe for concurrent use.
type Domain struct {
	tb  testing.TB
	alg jose.SignatureAlgorithm
	key crypto.Signer
	ca  *x509.Certificate
	own *ecdsa.PrivateKey // of the CA
}

// New makes a domain whose tokens are signed with ES256, as SPIRE's are by default.
func New(tb testing.TB) *Domain {
	tb.Helper()
	return newDomain(tb, jose.ES256, ecKey(tb))
}

// NewRSA makes a domain that signs with RS256: jwt_key_type = "rsa-2048".
func NewRSA(tb testing.TB) *Domain {
	tb.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		tb.Fatal(err)
	}
	return newDomain(tb, jose.RS256, key)
}

func ecKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func newDomain(tb testing.TB, alg jose.SignatureAlgorithm, key crypto.Signer) *Domain {
	tb.Helper()
	d := &Domain{tb: tb, alg: alg, key: key, own: ecKey(tb)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, URIs: []*url.URL{{Scheme: "spiffe", Host: "acme.example"}},
	}
	d.ca = d.certificate(template, template, &d.own.PublicKey)
	return d
}

func (d *Domain) certificate(template, parent *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	d.tb.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, d.own)
	if err != nil {
		d.tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		d.tb.Fatal(err)
	}
	return cert
}

// Roots verify its X.509-SVIDs.
func (d *Domain) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(d.ca)
	return pool
}

// JWKS is what a relying party reads at jwks_uri.
func (d *Domain) JWKS() []byte {
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: d.key.Public(), KeyID: "1", Algorithm: string(d.alg), Use: "sig"}}})
	if err != nil {
		d.tb.Fatal(err)
	}
	return raw
}

// Expect is what a relying party holds a token to. Empty members are not compared.
type Expect struct {
	Audience, Subject string
	Algorithms        []jose.SignatureAlgorithm // default: RS256 and ES256
}

// Verify checks signature, iss, sub, sole audience, exp and iat of a token, with the keys
// of a JWKS.
func Verify(jwks []byte, raw string, want Expect) (jwt.Claims, error) {
	if want.Algorithms == nil {
		want.Algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256}
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &keys); err != nil {
		return jwt.Claims{}, err
	}
	t, err := jwt.ParseSigned(raw, want.Algorithms)
	if err != nil {
		return jwt.Claims{}, err
	}
	found := keys.Key(t.Headers[0].KeyID)
	if len(found) != 1 {
		return jwt.Claims{}, errors.New("no key with this kid")
	}
	var c jwt.Claims
	if err := t.Claims(found[0].Key, &c); err != nil {
		return jwt.Claims{}, err
	}
	switch {
	case c.Issuer != Issuer:
		return c, fmt.Errorf("iss is %q", c.Issuer)
	case len(c.Audience) != 1 || c.Audience[0] != want.Audience:
		return c, fmt.Errorf("aud is %q", c.Audience)
	case want.Subject != "" && c.Subject != want.Subject:
		return c, fmt.Errorf("sub is %q", c.Subject)
	case c.Expiry == nil || !time.Now().Before(c.Expiry.Time()):
		return c, errors.New("it has ended")
	case c.IssuedAt == nil:
		return c, errors.New("no iat")
	}
	return c, nil
}

// Subject is a workload of the domain. It implements credential.Subject; its exported
// members spoil what it gives, and must not be changed while it is asked.
type Subject struct {
	ID       string
	Life     time.Duration // of JWT-SVIDs: 5 minutes
	X509Life time.Duration // of X.509-SVIDs: an hour
	Audience jwt.Audience  // instead of what is asked for
	JTI      string
	Err      error

	d     *Domain
	mu    sync.Mutex
	asked []string
	cert  *tls.Certificate
	count int64
}

// Subject makes a workload.
func (d *Domain) Subject(id string) *Subject {
	return &Subject{ID: id, Life: 5 * time.Minute, X509Life: time.Hour, d: d}
}

// Asked lists the audiences of the JWT-SVIDs that were asked for.
func (s *Subject) Asked() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.asked...)
}

// JWTSVID implements credential.Subject.
func (s *Subject) JWTSVID(_ context.Context, audience string) (secret.Secret, time.Time, error) {
	s.mu.Lock()
	s.asked = append(s.asked, audience)
	s.mu.Unlock()
	now := time.Now()
	expires := now.Add(s.Life)
	if s.Err != nil {
		return secret.Secret{}, expires, s.Err
	}
	aud := jwt.Audience{audience}
	if s.Audience != nil {
		aud = s.Audience
	}
	opt := (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", "1")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: s.d.alg, Key: s.d.key}, opt)
	if err != nil {
		return secret.Secret{}, expires, err
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: Issuer, Subject: s.ID, Audience: aud, ID: s.JTI, Expiry: jwt.NewNumericDate(expires), IssuedAt: jwt.NewNumericDate(now),
	}).Serialize()
	return secret.New(text), expires, err
}

// X509SVID implements credential.Subject: the same one until Rotate.
func (s *Subject) X509SVID(context.Context) (tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Err != nil {
		return tls.Certificate{}, s.Err
	}
	if s.cert == nil {
		if err := s.issue(); err != nil {
			return tls.Certificate{}, err
		}
	}
	return *s.cert, nil
}

// Rotate gives the subject another X.509-SVID, as an agent does at half its life.
func (s *Subject) Rotate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cert = nil
}

// issue makes an X.509-SVID. s.mu is held.
func (s *Subject) issue() error {
	id, err := url.Parse(s.ID)
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	s.count++
	leaf := s.d.certificate(&x509.Certificate{
		SerialNumber: big.NewInt(100 + s.count), NotBefore: time.Now().Add(-2 * s.X509Life.Abs()), NotAfter: time.Now().Add(s.X509Life),
		URIs: []*url.URL{id}, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, s.d.ca, &key.PublicKey)
	s.cert = &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
	return nil
}
