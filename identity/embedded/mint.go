// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/internal/secret"
)

// backdate is how long before now a certificate begins, for clocks that lag.
const backdate = time.Minute

// authority is one generation of keys.
type authority struct {
	id     spiffeid.ID // of the trust domain
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	kid    string
	jwtKey *ecdsa.PrivateKey
	half   time.Time // when the next generation is due
}

func newAuthority(td spiffeid.TrustDomain, ttl time.Duration) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	jwtKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	a := &authority{id: td.ID(), key: key, jwtKey: jwtKey, kid: rand.Text(), half: now.Add(ttl / 2)}
	a.cert, err = sign(caTemplate(td, now, ttl), nil, a)
	return a, err
}

func caTemplate(td spiffeid.TrustDomain, now time.Time, ttl time.Duration) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"egret embedded SPIFFE issuer"}, CommonName: td.Name()},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		URIs:                  []*url.URL{td.ID().URL()},
	}
}

// sign signs the template with a's key, for pub or, where that is nil, for a itself.
func sign(template *x509.Certificate, pub *ecdsa.PublicKey, a *authority) (*x509.Certificate, error) {
	parent := a.cert
	if pub == nil {
		pub, parent = &a.key.PublicKey, template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (a *authority) old() bool { return !time.Now().Before(a.half) }

// MintX509 issues an X.509-SVID with a new key, for use in this process. A ttl of zero
// is the issuer's own; an SVID never outlives its CA.
func (i *Issuer) MintX509(id spiffeid.ID, ttl time.Duration) (*x509svid.SVID, error) {
	if err := i.mayMint(id, ttl); err != nil {
		return nil, err
	}
	now, err := i.authorities()
	if err != nil {
		return nil, err
	}
	return now.signer.mintX509(id, orDefault(ttl, i.options.X509TTL))
}

func (i *Issuer) mayMint(id spiffeid.ID, ttl time.Duration) error {
	switch {
	case !id.MemberOf(i.options.TrustDomain):
		return fmt.Errorf("embedded issuer: id %q is not of trust domain %q", id, i.options.TrustDomain)
	case id.Path() == "":
		return fmt.Errorf("embedded issuer: id %q names no workload; add a path, such as %q", id, id.String()+"/app")
	case ttl < 0:
		return fmt.Errorf("embedded issuer: ttl is %v, must not be negative", ttl)
	}
	return nil
}

func (a *authority) mintX509(id spiffeid.ID, ttl time.Duration) (*x509svid.SVID, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	cert, err := sign(&x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"egret embedded SPIFFE issuer"}},
		NotBefore:             now.Add(-backdate),
		NotAfter:              earlier(now.Add(ttl), a.cert.NotAfter),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		URIs:                  []*url.URL{id.URL()},
	}, &key.PublicKey, a)
	if err != nil {
		return nil, err
	}
	return &x509svid.SVID{ID: id, Certificates: []*x509.Certificate{cert}, PrivateKey: key}, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// MintJWT issues a JWT-SVID for exactly one audience. A ttl of zero is the issuer's
// own.
func (i *Issuer) MintJWT(id spiffeid.ID, audience string, ttl time.Duration) (secret.Secret, error) {
	if audience == "" {
		return secret.Secret{}, errors.New("embedded issuer: no audience given; name the service that the token is for")
	}
	if err := i.mayMint(id, ttl); err != nil {
		return secret.Secret{}, err
	}
	now, err := i.authorities()
	if err != nil {
		return secret.Secret{}, err
	}
	token, err := now.signer.mintJWT(jwt.Claims{
		Issuer:   i.options.JWTIssuer,
		Subject:  id.String(),
		Audience: jwt.Audience{audience},
	}, orDefault(ttl, i.options.JWTTTL))
	return secret.New(token), err
}

// mintJWT signs the claims with iat and exp added.
func (a *authority) mintJWT(c jwt.Claims, ttl time.Duration) (string, error) {
	key := jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: a.jwtKey, KeyID: a.kid}}
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	now := time.Now()
	c.IssuedAt, c.Expiry = jwt.NewNumericDate(now), jwt.NewNumericDate(now.Add(ttl))
	return jwt.Signed(signer).Claims(c).Serialize()
}
