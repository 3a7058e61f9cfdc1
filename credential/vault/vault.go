// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package vault is the provider that asks HashiCorp Vault or OpenBao, which speak one
// API: a secret of a KV version 2 engine, a dynamic secret with its lease, Vault's own
// client token, or what a wrapping token holds. It logs in with the SVID of the caller,
// so that Vault's policies and audit log name the workload and not egret.
//
// A lease hangs on the client token that made it, so the two are kept together: one
// login for each secret that is lent, both renewed while Vault gives what is asked, both
// ended with it. What has no lease is read, and its client token ended at once.
package vault

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Config is fixed at load. Nothing of an application's request reaches it (MUST T10,
// H16). Exactly one of KV, Dynamic, ClientToken and Unwrap is set.
type Config struct {
	Address   string // https://host[:port][/prefix], without /v1
	Namespace string // sent as X-Vault-Namespace; empty: none
	Login     Login  // not with Unwrap

	// Keys names the values that come out of it: by name of the value, the key of the
	// secret. Not with ClientToken, which gives token.
	Keys        map[string]string
	KV          *KV
	Dynamic     *Dynamic
	ClientToken bool
	Unwrap      *Unwrap

	TTL    time.Duration // how long the Cache keeps what tells no lifetime; default 1 h
	Issuer issuer.Options
}

// Ways to log in.
const (
	JWT  = "jwt"  // the auth method jwt, with a JWT-SVID
	Cert = "cert" // the auth method cert, with an X.509-SVID
)

// Login says how a workload gets a client token.
type Login struct {
	Method   string // JWT or Cert
	Mount    string // empty: the method's name
	Role     string
	Audience string // of the JWT-SVID, its only one; empty: Address
}

// KV is a secret of a KV version 2 engine.
type KV struct {
	Mount   string // empty: secret
	Path    string
	Version int // zero: the newest
}

// Dynamic is a path whose reading makes a secret.
type Dynamic struct {
	Path       string            // mount included
	Parameters map[string]string // sent with POST; empty: a GET
}

// Unwrap opens a response that somebody has wrapped.
type Unwrap struct {
	Token        func() (secret.Secret, error) // the wrapping token, of single use
	CreationPath string                        // that it must have been made by
	State        string                        // a file that keeps what it held, over reloads and restarts
}

// Provider implements credential.Provider. Safe for concurrent use. Close it.
type Provider struct {
	cfg    Config
	base   string // URL up to and with /v1/
	client *issuer.Client
	log    *slog.Logger
	book   *book
	opened opened
}

// New validates c. Vault is not asked.
func New(c Config) (*Provider, error) {
	c.setDefaults()
	if err := c.check(); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	c.Keys = maps.Clone(c.Keys)
	return &Provider{cfg: c, base: c.Address + "/v1/", client: issuer.New(c.Issuer), log: c.Issuer.Logger, book: newBook()}, nil
}

func (c *Config) setDefaults() {
	c.Address = strings.TrimSuffix(c.Address, "/")
	if c.Login.Mount == "" {
		c.Login.Mount = c.Login.Method
	}
	if c.Login.Audience == "" {
		c.Login.Audience = c.Address
	}
	if c.KV != nil && c.KV.Mount == "" {
		kv := *c.KV
		kv.Mount = "secret"
		c.KV = &kv
	}
	if c.TTL <= 0 {
		c.TTL = time.Hour
	}
	if c.Issuer.Logger == nil {
		c.Issuer.Logger = slog.New(slog.DiscardHandler)
	}
}

// Fetch implements credential.Provider. Where the newest secret of k is lent and two
// thirds of its life are over, it is renewed; before that a second Fetch means that the
// secret is not held any more, and another one is read. Refused: Vault's roles and
// policies say no, or a wrapping token is not good. Unreachable: network, 429, 5xx, a
// sealed Vault. NotMinted: nothing usable is there. Unconfigured: there is no SVID.
// Backoff: more secrets are lent than egret keeps account of.
func (p *Provider) Fetch(ctx context.Context, k credential.Key, s credential.Subject) (credential.Token, error) {
	switch {
	case p.cfg.Unwrap != nil:
		return p.unwrap(ctx)
	case p.cfg.KV != nil:
		return p.readKV(ctx, s)
	}
	return p.lend(ctx, k, s)
}

// Close ends idle connections and what was replaced a moment ago. What was lent last is
// left alone, since a Cache serves it beyond a reload: it ends by Token.Revoke, or with
// its lifetime.
func (p *Provider) Close() error {
	p.book.close()
	return p.client.Close()
}

// plain is a Token without a lease: it lives for the configured TTL.
func plain(values map[string]secret.Secret) credential.Token {
	return credential.Token{Values: values, Fingerprint: fingerprint(values)}
}

// fingerprint names values of which none is called token; else the Cache does.
func fingerprint(values map[string]secret.Secret) string {
	if _, ok := values["token"]; ok {
		return ""
	}
	var all strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		fmt.Fprintf(&all, "%s\x00%s\x00", name, values[name].Reveal())
	}
	return secret.New(all.String()).Fingerprint()
}
