// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"

	"github.com/egret-proxy/egret/internal/secret"
)

// DefaultMaxTTL bounds a JWT-SVID's life (exp - iat) where JWTOptions say nothing.
const DefaultMaxTTL = time.Hour

// JWTOptions configures a JWT resolver.
type JWTOptions struct {
	// Bundles verify the signatures. A bundle that it returned must never be changed: a
	// change arrives as another *Bundle, as from Source. Required.
	Bundles      jwtbundle.Source
	TrustDomains []spiffeid.TrustDomain // whose callers are accepted; required
	Audience     string                 // the one audience that a token must be for; required
	MaxTTL       time.Duration          // exp - iat at most; default 1h
}

// JWT identifies callers by a JWT-SVID. Being a bearer token it proves only that the
// one who sends it has seen it, so it belongs on loopback, unix sockets and TLS only.
// The key that verifies is found in the configured bundles by the token's trust domain
// and key ID; iss, jku, jwk, x5u and the like are never looked at (MUST I11). It
// implements Resolver.
type JWT struct{ options JWTOptions }

// NewJWT makes a resolver for JWT-SVIDs in Proxy-Authorization.
func NewJWT(o JWTOptions) (*JWT, error) {
	switch {
	case o.Bundles == nil:
		return nil, errors.New("jwt-svid: no source of bundles given")
	case len(o.TrustDomains) == 0:
		return nil, errors.New("jwt-svid: no trust domain is allowed; list those whose callers are accepted")
	case o.Audience == "":
		return nil, errors.New("jwt-svid: no audience given; name the one that tokens for this proxy carry")
	case o.MaxTTL < 0:
		return nil, fmt.Errorf("jwt-svid: max ttl is %v, must not be negative", o.MaxTTL)
	case o.MaxTTL == 0:
		o.MaxTTL = DefaultMaxTTL
	}
	o.TrustDomains = slices.Clone(o.TrustDomains)
	return &JWT{options: o}, nil
}

// signatureAlgorithms is the set that the JWT-SVID specification allows (section 2.1).
func signatureAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512,
	}
}

// Resolve implements Resolver. Errors: ErrUnknown without a token, ErrTrustDomain,
// ErrWrongAudience, ErrExpired, ErrUnavailable, ErrInvalid for every other flaw. What a
// token says is believed, even for the choice among these, only once its signature has
// been verified; its trust domain is the one exception.
func (j *JWT) Resolve(_ context.Context, p Peer) (Caller, error) {
	if p.JWT.IsZero() {
		return nil, fmt.Errorf("%w: no JWT-SVID", ErrUnknown)
	}
	token, err := parseToken(p.JWT)
	if err != nil {
		return nil, err
	}
	if err := acceptable(token.sub, j.options.TrustDomains); err != nil {
		return nil, err
	}
	td := token.sub.TrustDomain()
	bundle, err := j.options.Bundles.GetJWTBundleForTrustDomain(td)
	if err != nil {
		return nil, orKnown(err, ErrInvalid)
	}
	key, ok := bundle.FindJWTAuthority(token.kid)
	if !ok {
		return nil, fmt.Errorf("%w: the JWT bundle of %q has no key %.64q", ErrInvalid, td, token.kid)
	}
	// A bundle answers for its own trust domain only.
	svid, err := jwtsvid.ParseAndValidate(p.JWT.Reveal(), bundle, []string{j.options.Audience})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", j.flaw(token, key), err)
	}
	if err := j.check(svid); err != nil {
		return nil, err
	}
	c := &jwtCaller{id: svid.ID, kid: token.kid, key: key, expires: svid.Expiry, bundles: j.options.Bundles}
	c.last.Store(&jwtVouched{bundle: bundle})
	return c, nil
}

// token is a parsed and not yet verified JWT.
type token struct {
	jws *jwt.JSONWebToken
	kid string
	sub spiffeid.ID
}

func parseToken(s secret.Secret) (token, error) {
	if n := len(s.Reveal()); n > maxProxyAuthorization {
		return token{}, fmt.Errorf("%w: the token has %d bytes, at most %d are read", ErrInvalid, n, maxProxyAuthorization)
	}
	jws, err := jwt.ParseSigned(s.Reveal(), signatureAlgorithms())
	if err != nil || len(jws.Headers) != 1 {
		// The parser's error may quote the token.
		return token{}, fmt.Errorf("%w: not a JWT with one signature of an algorithm that SPIFFE allows", ErrInvalid)
	}
	var claims jwt.Claims
	if err := jws.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return token{}, fmt.Errorf("%w: the token's claims cannot be read", ErrInvalid)
	}
	sub, err := spiffeid.FromString(claims.Subject)
	if err != nil {
		return token{}, fmt.Errorf("%w: the token's sub is no SPIFFE ID: %w", ErrInvalid, err)
	}
	return token{jws: jws, kid: jws.Headers[0].KeyID, sub: sub}, nil
}

// flaw says what is wrong with a token that did not pass, by its verified claims.
func (j *JWT) flaw(t token, key crypto.PublicKey) error {
	var claims jwt.Claims
	if t.jws.Claims(key, &claims) != nil || claims.Expiry == nil {
		return ErrInvalid
	}
	switch {
	case !time.Now().Before(claims.Expiry.Time()):
		return ErrExpired
	case !claims.Audience.Contains(j.options.Audience):
		return ErrWrongAudience
	}
	return ErrInvalid
}

// check holds a verified token to what go-spiffe leaves open: it takes any list of
// audiences that contains ours, any length of life, a missing iat, and an exp that has
// passed by less than a minute.
func (j *JWT) check(svid *jwtsvid.SVID) error {
	if !time.Now().Before(svid.Expiry) {
		return fmt.Errorf("%w: the token ended at %s", ErrExpired, svid.Expiry.Format(time.RFC3339))
	}
	if len(svid.Audience) != 1 || svid.Audience[0] != j.options.Audience {
		return fmt.Errorf("%w: aud is %q, must be %q alone", ErrWrongAudience, svid.Audience, j.options.Audience)
	}
	iat, ok := svid.Claims["iat"].(float64)
	if !ok || math.Abs(iat) > 1<<53 {
		return fmt.Errorf("%w: the token has no usable iat", ErrInvalid)
	}
	if life := float64(svid.Expiry.Unix()) - iat; life > j.options.MaxTTL.Seconds() {
		return fmt.Errorf("%w: the token lives %.0f s, at most %.0f s are accepted; ask for shorter ones", ErrInvalid, life, j.options.MaxTTL.Seconds())
	}
	return nil
}

// jwtCaller is one connection. It does not hold the token.
type jwtCaller struct {
	id      spiffeid.ID
	kid     string
	key     crypto.PublicKey
	expires time.Time
	bundles jwtbundle.Source
	last    atomic.Pointer[jwtVouched]
}

// jwtVouched is what one bundle said about the key.
type jwtVouched struct {
	bundle *jwtbundle.Bundle
	err    error
}

// Workload implements Caller. The key is looked for again only when the bundle is
// another one than last time.
func (c *jwtCaller) Workload() (Workload, error) {
	if !time.Now().Before(c.expires) {
		return Workload{}, fmt.Errorf("%w: the token ended at %s", ErrExpired, c.expires.Format(time.RFC3339))
	}
	bundle, err := c.bundles.GetJWTBundleForTrustDomain(c.id.TrustDomain())
	if err != nil {
		return Workload{}, orKnown(err, ErrRevoked)
	}
	now := c.last.Load()
	if now.bundle != bundle {
		now = &jwtVouched{bundle: bundle, err: c.held(bundle)}
		c.last.Store(now)
	}
	if now.err != nil {
		return Workload{}, now.err
	}
	return Workload{ID: c.id, Evidence: EvidenceJWTSVID, Expires: c.expires}, nil
}

// held says whether the bundle still has the very key under the same ID.
func (c *jwtCaller) held(b *jwtbundle.Bundle) error {
	now, found := b.FindJWTAuthority(c.kid)
	was, ok := c.key.(interface{ Equal(crypto.PublicKey) bool })
	if !found || !ok || !was.Equal(now) {
		return fmt.Errorf("%w: the JWT bundle of %q has lost key %q", ErrRevoked, c.id.TrustDomain(), c.kid)
	}
	return nil
}

// JWTSVID implements Caller. The token that was sent to this proxy is for this proxy
// and is never handed on (MUST I10).
func (*jwtCaller) JWTSVID(context.Context, string) (secret.Secret, time.Time, error) {
	return secret.Secret{}, time.Time{}, ErrNotHeld
}

// X509SVID implements Caller.
func (*jwtCaller) X509SVID(context.Context) (tls.Certificate, error) {
	return tls.Certificate{}, ErrNotHeld
}
