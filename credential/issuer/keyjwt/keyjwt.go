// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package keyjwt signs the JWTs by which a client proves itself to an issuer that knows
// its public key. The key is read anew for each, so that a rotation is seen at once.
package keyjwt

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"

	"github.com/egret-proxy/egret/internal/secret"
)

// Algorithms of signatures.
const (
	RS256 = string(jose.RS256)
	PS256 = string(jose.PS256)
	ES256 = string(jose.ES256)
)

// Key is a private key. It does not print.
type Key struct {
	signer crypto.Signer
	id     string // of a JWK
}

// Parse reads a private key: PEM (PKCS #8, PKCS #1, SEC 1) or a JWK. RSA must have at
// least 2048 bits, an elliptic curve must be P-256. Errors quote nothing of the text.
func Parse(text secret.Secret) (Key, error) {
	raw := text.Reveal()
	k := Key{}
	var err error
	if strings.HasPrefix(strings.TrimSpace(raw), "{") {
		k, err = parseJWK(raw)
	} else {
		k.signer, err = parsePEM(raw)
	}
	if err != nil {
		return Key{}, err
	}
	switch s := k.signer.(type) {
	case *rsa.PrivateKey:
		if s.N.BitLen() < 2048 {
			return Key{}, fmt.Errorf("key of %d bits must have at least 2048", s.N.BitLen())
		}
	case *ecdsa.PrivateKey:
		if s.Curve != elliptic.P256() {
			return Key{}, errors.New("elliptic key must be on P-256")
		}
	default:
		return Key{}, errors.New("key must be RSA or on P-256")
	}
	return k, nil
}

func parseJWK(raw string) (Key, error) {
	var j jose.JSONWebKey
	if json.Unmarshal([]byte(raw), &j) != nil || j.IsPublic() || !j.Valid() {
		return Key{}, errors.New("key is not a private JWK")
	}
	s, ok := j.Key.(crypto.Signer)
	if !ok {
		return Key{}, errors.New("key is not a private JWK of a key pair")
	}
	return Key{signer: s, id: j.KeyID}, nil
}

func parsePEM(raw string) (crypto.Signer, error) {
	b, _ := pem.Decode([]byte(raw))
	if b == nil {
		return nil, errors.New("key is neither PEM nor a JWK")
	}
	switch b.Type {
	case "RSA PRIVATE KEY":
		if k, err := x509.ParsePKCS1PrivateKey(b.Bytes); err == nil {
			return k, nil
		}
	case "EC PRIVATE KEY":
		if k, err := x509.ParseECPrivateKey(b.Bytes); err == nil {
			return k, nil
		}
	case "PRIVATE KEY":
		if k, err := x509.ParsePKCS8PrivateKey(b.Bytes); err == nil {
			if s, ok := k.(crypto.Signer); ok {
				return s, nil
			}
		}
	case "ENCRYPTED PRIVATE KEY":
		return nil, errors.New("key must not be encrypted: openssl pkcs8 -topk8 -nocrypt makes it so")
	}
	return nil, errors.New("PEM holds no private key that can be read")
}

// Public is the other half.
func (k Key) Public() crypto.PublicKey { return k.signer.Public() }

// Format keeps the key out of every text.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(secret.Redacted)) }

// Algorithm is want, or the usual one of the key where want is empty. It fails where the
// key cannot do want.
func (k Key) Algorithm(want string) (string, error) {
	_, curve := k.signer.(*ecdsa.PrivateKey)
	switch {
	case want == "" && curve:
		return ES256, nil
	case want == "":
		return RS256, nil
	case curve != (want == ES256) || want != RS256 && want != PS256 && want != ES256:
		return "", fmt.Errorf("algorithm %q does not fit the key", want)
	}
	return want, nil
}

// Header is what stands before the claims. Empty members are left out; the key's own id
// counts where ID is.
type Header struct{ Algorithm, ID string }

// Sign makes a compact JWT.
func (k Key) Sign(h Header, claims map[string]any) (secret.Secret, error) {
	alg, err := k.Algorithm(h.Algorithm)
	if err != nil {
		return secret.Secret{}, err
	}
	if h.ID == "" {
		h.ID = k.id
	}
	opts := (&jose.SignerOptions{}).WithType("JWT")
	if h.ID != "" {
		opts = opts.WithHeader("kid", h.ID)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: k.signer}, opts)
	if err != nil {
		return secret.Secret{}, errors.New("key cannot sign")
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return secret.Secret{}, errors.New("claims are no JSON")
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return secret.Secret{}, errors.New("key cannot sign")
	}
	text, err := signed.CompactSerialize()
	return secret.New(text), err
}

// NewID returns 128 random bits for the claim jti, which no two JWTs share.
func NewID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}
