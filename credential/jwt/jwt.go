// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package jwt is the provider whose token is a JWT-SVID itself, for a destination that
// verifies SPIFFE identities: fetched from the agent for that destination's audience
// alone. The token that the caller has shown to egret never leaves egret (MUST I10).
package jwt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/svid"
	"github.com/egret-proxy/egret/internal/secret"
)

// Config is fixed at load.
type Config struct {
	Audience string // the destination's own, exactly one
	// SingleUse refuses tokens without a jti, which the agent may give twice: for a
	// destination that accepts each token once (MUST C11).
	SingleUse bool
}

// Provider implements credential.Provider. Safe for concurrent use.
type Provider struct{ cfg Config }

// New validates c.
func New(c Config) (*Provider, error) {
	if c.Audience == "" || strings.ContainsAny(c.Audience, " \t,") {
		return nil, fmt.Errorf("jwt: audience %q must be exactly one", c.Audience)
	}
	return &Provider{cfg: c}, nil
}

// Fetch implements credential.Provider. Its errors are those of svid.Fetch; Refused: the
// token has no jti and must.
func (p *Provider) Fetch(ctx context.Context, _ credential.Key, s credential.Subject) (credential.Token, error) {
	id, err := svid.Fetch(ctx, s, p.cfg.Audience)
	if err != nil {
		return credential.Token{}, err
	}
	if p.cfg.SingleUse && id.ID == "" {
		return credential.Token{}, &credential.Error{Kind: credential.Refused, Err: errors.New(
			"the JWT-SVID has no jti, without which an agent gives the same one twice: set jwtSVIDIncludeJTI on SPIRE's entry")}
	}
	return credential.Token{Values: map[string]secret.Secret{"token": id.Value}, Lifetime: id.Remaining()}, nil
}
