// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package snowflake is the provider of Snowflake's key-pair authentication: a JWT that
// egret signs itself with a user's private key and that is the token, at most an hour
// long. No issuer is asked. Snowflake is told by the constant header
// X-Snowflake-Authorization-Token-Type: KEYPAIR_JWT what it is. Workload identity
// federation is not for this: Snowflake documents it for its drivers alone, which send a
// JWT in the body of their login.
package snowflake

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/keyjwt"
	"github.com/egret-proxy/egret/internal/secret"
)

// Limits of a token's life. Snowflake takes an hour from iat, whatever exp says.
const (
	MaxLife     = time.Hour
	DefaultLife = 30 * time.Minute
)

// Config is fixed at load.
type Config struct {
	Account string // identifier without region and domain: acme-prod, or a locator
	User    string // whose public key Snowflake knows
	Key     func() (secret.Secret, error)
	Life    time.Duration // zero: DefaultLife
}

// Provider implements credential.Provider. It does no network I/O. Safe for concurrent use.
type Provider struct{ cfg Config }

// New validates c. It does no I/O.
func New(c Config) (*Provider, error) {
	if c.Life == 0 {
		c.Life = DefaultLife
	}
	switch {
	case CheckAccount(c.Account) != nil:
		return nil, fmt.Errorf("snowflake: account %q %w", c.Account, CheckAccount(c.Account))
	case c.User == "" || c.Key == nil:
		return nil, errors.New("snowflake: needs user and a private key")
	case c.Life < time.Minute || c.Life > MaxLife:
		return nil, fmt.Errorf("snowflake: lifetime %s must be between 1m and 1h", c.Life)
	}
	return &Provider{cfg: c}, nil
}

// CheckAccount holds an account identifier to what stands in a token: Snowflake wants it
// without the parts after the first dot, which are of the host name.
func CheckAccount(s string) error {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
	if s == "" || strings.Trim(s, letters) != "" {
		return errors.New("must be an account identifier of letters, digits, - and _, without region and domain")
	}
	return nil
}

// Fetch implements credential.Provider. Its errors are those of the key.
func (p *Provider) Fetch(context.Context, credential.Key, credential.Subject) (credential.Token, error) {
	text, err := p.cfg.Key()
	if err != nil {
		return credential.Token{}, issuer.Within("private key", err)
	}
	key, err := keyjwt.Parse(text)
	if err != nil {
		return credential.Token{}, issuer.NotMinted("private key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return credential.Token{}, issuer.NotMinted("private key has no public half")
	}
	sum := sha256.Sum256(der)
	now := time.Now()
	subject := strings.ToUpper(p.cfg.Account) + "." + strings.ToUpper(p.cfg.User)
	signed, err := key.Sign(keyjwt.Header{Algorithm: keyjwt.RS256}, map[string]any{
		"iss": subject + ".SHA256:" + base64.StdEncoding.EncodeToString(sum[:]), "sub": subject,
		"iat": now.Unix(), "exp": now.Add(p.cfg.Life).Unix(),
	})
	if err != nil {
		return credential.Token{}, issuer.NotMinted("private key: %w", err)
	}
	// iat is cut to the second below: the token ends up to a second before now plus Life.
	return credential.Token{Values: map[string]secret.Secret{"token": signed}, Lifetime: p.cfg.Life - time.Second}, nil
}
