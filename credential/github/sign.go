// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package github

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Signer signs for the App with its private key, which may live in a key service. Safe
// for concurrent use. Errors are *credential.Error and hold nothing of the key.
type Signer interface {
	// Sign returns the signature RS256 (RFC 7518, 3.3) of message.
	Sign(ctx context.Context, message []byte) ([]byte, error)
}

const (
	// backdate is what GitHub recommends against clocks that differ.
	backdate = time.Minute
	// lasting is how long a JWT is good. GitHub takes up to ten minutes of its own clock;
	// a short one also stands a clock that is ahead, and is used at once.
	lasting = 5 * time.Minute
)

// assertion is the JWT by which the App proves itself.
func assertion(ctx context.Context, by Signer, app string, now time.Time) (secret.Secret, error) {
	claims, err := json.Marshal(struct {
		Issuer  string `json:"iss"`
		Issued  int64  `json:"iat"`
		Expires int64  `json:"exp"`
	}{app, now.Add(-backdate).Unix(), now.Add(lasting).Unix()})
	if err != nil {
		return secret.Secret{}, fail(credential.Unconfigured, "appID cannot be written")
	}
	message := encode([]byte(`{"alg":"RS256","typ":"JWT"}`)) + "." + encode(claims)
	signature, err := by.Sign(ctx, []byte(message))
	if err != nil {
		return secret.Secret{}, issuer.Within("signing the App's JWT", err)
	}
	return secret.New(message + "." + encode(signature)), nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Key signs with a private key at hand.
type Key struct {
	read func() (secret.Secret, error)
}

// NewKey makes a Signer of an RSA key in PEM, PKCS #1 (as GitHub gives it) or PKCS #8,
// which read gives for every signature, so that a new key is used at once.
func NewKey(read func() (secret.Secret, error)) *Key { return &Key{read: read} }

// Sign implements Signer.
func (k *Key) Sign(_ context.Context, message []byte) ([]byte, error) {
	text, err := k.read()
	if err != nil {
		return nil, issuer.Within("private key", err)
	}
	key, err := parseKey(text)
	if err != nil {
		return nil, fail(credential.NotMinted, "private key %w", err)
	}
	sum := sha256.Sum256(message)
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return nil, fail(credential.NotMinted, "private key cannot sign")
	}
	return signature, nil
}

// parseKey reads a key. Its errors never quote it.
func parseKey(text secret.Secret) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text.Reveal()))
	if block == nil {
		return nil, errors.New("must be PEM, as GitHub gives it")
	}
	var key *rsa.PrivateKey
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PRIVATE KEY":
		var parsed any
		if parsed, err = x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			var ok bool
			if key, ok = parsed.(*rsa.PrivateKey); !ok {
				return nil, errors.New("must be an RSA key: GitHub takes RS256 only")
			}
		}
	default:
		return nil, errors.New("must be an RSA PRIVATE KEY or a PRIVATE KEY without passphrase")
	}
	switch {
	case err != nil:
		return nil, errors.New("is not a whole RSA key")
	case key.N.BitLen() < 2048:
		return nil, errors.New("must have at least 2048 bits")
	}
	return key, nil
}
