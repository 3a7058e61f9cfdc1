// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package svid fetches the identity that a provider proves to an issuer: a JWT-SVID of
// the caller (or, with as: egret, of egret itself) for one audience, fetched for this
// purpose alone. It verifies no signature: the issuer does that. What it reads of a token
// serves to refuse early, with a reason, what the issuer would refuse without one.
package svid

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/internal/secret"
)

// Token is a JWT-SVID with what its issuer wrote into it. Immutable.
type Token struct {
	Value     secret.Secret
	Algorithm string // of the header: ES256
	Subject   string // the SPIFFE ID
	Issuer    string // empty where SPIRE has no jwt_issuer
	ID        string // jti, empty for most
	Issued    time.Time
	Expires   time.Time // of the claims; the end at any relying party
}

// Fetch asks s for a JWT-SVID for exactly this audience (MUST I10: never the token that
// the caller sent to egret, which is for egret's own audience). Errors are
// *credential.Error: Unconfigured without a subject or where egret cannot act for it, Unreachable where the agent gives
// none, NotMinted for a token that is for others too, has ended, or cannot be read.
func Fetch(ctx context.Context, s credential.Subject, audience string) (Token, error) {
	if s == nil {
		return Token{}, fail(credential.Unconfigured, errors.New("needs the caller's SVID, and egret does not hold one"))
	}
	value, _, err := s.JWTSVID(ctx, audience)
	if err != nil {
		return Token{}, credential.OfSubject(fmt.Sprintf("JWT-SVID for audience %q", audience), err)
	}
	t, err := parse(value, audience)
	if err == nil && !time.Now().Before(t.Expires) {
		err = fmt.Errorf("must not have ended, and did at %s", t.Expires.UTC().Format(time.RFC3339))
	}
	if err != nil {
		return Token{}, fail(credential.NotMinted, fmt.Errorf("JWT-SVID: %w", err))
	}
	return t, nil
}

// Remaining is how long the token still lives.
func (t Token) Remaining() time.Duration { return time.Until(t.Expires) }

func fail(k credential.Kind, err error) *credential.Error {
	return &credential.Error{Kind: k, Err: err}
}

type claims struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	ID       string          `json:"jti"`
	Audience json.RawMessage `json:"aud"`
	Expires  *float64        `json:"exp"`
	Issued   *float64        `json:"iat"`
}

func parse(value secret.Secret, audience string) (Token, error) {
	head, rest, ok1 := strings.Cut(value.Reveal(), ".")
	payload, signature, ok2 := strings.Cut(rest, ".")
	if !ok1 || !ok2 || signature == "" || strings.Contains(signature, ".") {
		return Token{}, errors.New("is not a signed JWT")
	}
	var h struct {
		Algorithm string `json:"alg"`
	}
	var c claims
	if !decode(head, &h) || !decode(payload, &c) {
		return Token{}, errors.New("has a header or claims that cannot be read")
	}
	// One that is for several relying parties could be used at the others by each of them.
	if !slices.Equal(audiences(c.Audience), []string{audience}) {
		return Token{}, fmt.Errorf("must be for audience %q alone", audience)
	}
	expires, ok := instant(c.Expires)
	if !ok {
		return Token{}, errors.New("must tell its end (exp)")
	}
	issued, _ := instant(c.Issued)
	return Token{
		Value: value, Algorithm: h.Algorithm, Subject: c.Subject, Issuer: c.Issuer, ID: c.ID, Issued: issued, Expires: expires,
	}, nil
}

func decode(part string, into any) bool {
	raw, err := base64.RawURLEncoding.DecodeString(part)
	return err == nil && json.Unmarshal(raw, into) == nil
}

// audiences reads aud, a string or a list of them (RFC 7519, 4.1.3).
func audiences(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil {
		return []string{one}
	}
	var many []string
	if json.Unmarshal(raw, &many) != nil {
		return nil
	}
	return many
}

// instant reads a NumericDate (RFC 7519, 2).
func instant(f *float64) (time.Time, bool) {
	if f == nil || math.IsNaN(*f) || *f <= 0 || *f > 1<<40 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(*f * 1000)), true
}
