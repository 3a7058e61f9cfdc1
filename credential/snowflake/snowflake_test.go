// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package snowflake

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

// twin is what Snowflake checks of a request: users by their public key.
type twin struct {
	subject string
	key     *rsa.PublicKey
}

func (s *twin) check(r *http.Request) error {
	if r.Header.Get("X-Snowflake-Authorization-Token-Type") != "KEYPAIR_JWT" {
		return errors.New("token type")
	}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	tok, err := jwt.ParseSigned(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil || !ok {
		return fmt.Errorf("JWT token is invalid: %w", err)
	}
	var c jwt.Claims
	if err := tok.Claims(s.key, &c); err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(s.key)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(der)
	want := s.subject + ".SHA256:" + base64.StdEncoding.EncodeToString(sum[:])
	switch now := time.Now(); {
	case c.Issuer != want || c.Subject != s.subject:
		return fmt.Errorf("iss %q, sub %q", c.Issuer, c.Subject)
	case c.IssuedAt == nil || c.Expiry == nil || c.IssuedAt.Time().After(now) || !now.Before(c.Expiry.Time()):
		return errors.New("iat or exp")
	case now.Sub(c.IssuedAt.Time()) > time.Hour || c.Expiry.Time().Sub(c.IssuedAt.Time()) > time.Hour:
		return errors.New("older than an hour")
	}
	return nil
}

func newKey(t *testing.T) (*rsa.PrivateKey, func() (secret.Secret, error)) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key, pemOf(t, key)
}

func pemOf(t *testing.T, key any) func() (secret.Secret, error) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return func() (secret.Secret, error) {
		return secret.New(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))), nil
	}
}

func injections(t *testing.T) []credential.Injection {
	t.Helper()
	var out []credential.Injection
	for _, c := range []credential.InjectionConfig{
		{Header: "Authorization", Value: "Bearer {token}"}, {Header: "X-Snowflake-Authorization-Token-Type", Value: "KEYPAIR_JWT"},
	} {
		in, err := credential.NewInjection(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, in)
	}
	return out
}

func TestTokenIsOneThatSnowflakeTakes(t *testing.T) {
	key, text := newKey(t)
	s := &twin{subject: "ACME-PROD.EGRET", key: &key.PublicKey}
	p, err := New(Config{Account: "acme-prod", User: "egret", Key: text})
	if err != nil {
		t.Fatal(err)
	}
	tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || tok.Lifetime > DefaultLife || tok.Lifetime < DefaultLife-2*time.Second {
		t.Fatalf("%v, %s", err, tok.Lifetime)
	}
	live, err := credential.New(tok, injections(t), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	r, _ := http.NewRequest(http.MethodPost, "https://acme-prod.snowflakecomputing.com/api/v2/statements", nil)
	r.Header.Set("X-Snowflake-Authorization-Token-Type", "OAUTH") // the caller's own
	if err := live.Apply(r); err != nil {
		t.Fatal(err)
	}
	if err := s.check(r); err != nil {
		t.Error(err)
	}
	other, _ := newKey(t)
	for name, bad := range map[string]*twin{"user": {"ACME-PROD.OTHER", s.key}, "account": {"ACME.EGRET", s.key}, "key": {s.subject, &other.PublicKey}} {
		if bad.check(r) == nil {
			t.Errorf("taken by another %s", name)
		}
	}
}

func TestKeysThatDoNotFit(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		key  func() (secret.Secret, error)
		want credential.Kind
	}{
		"gone":  {func() (secret.Secret, error) { return secret.Secret{}, errors.New("gone") }, credential.Unreachable},
		"none":  {func() (secret.Secret, error) { return secret.New("hush"), nil }, credential.NotMinted},
		"curve": {pemOf(t, curve), credential.NotMinted},
	} {
		p, err := New(Config{Account: "a", User: "u", Key: c.key})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := p.Fetch(t.Context(), credential.Key{}, nil)
		if e, ok := errors.AsType[*credential.Error](err); !ok || e.Kind != c.want || strings.Contains(err.Error(), "hush") || len(tok.Values) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConfigIsStrict(t *testing.T) {
	_, key := newKey(t)
	for want, change := range map[string]func(*Config){
		"without region":   func(c *Config) { c.Account = "acme.eu-central-1" },
		`account ""`:       func(c *Config) { c.Account = "" },
		"needs user":       func(c *Config) { c.User = "" },
		"a private key":    func(c *Config) { c.Key = nil },
		"between 1m and":   func(c *Config) { c.Life = 61 * time.Minute },
		"lifetime 1s must": func(c *Config) { c.Life = time.Second },
	} {
		c := Config{Account: "a", User: "u", Key: key}
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
