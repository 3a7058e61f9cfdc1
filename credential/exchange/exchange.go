// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package exchange reads what a token endpoint answers to a workload that has presented a
// JWT-SVID: an access token (RFC 6749, 5.1; RFC 8693, 2.2.1) or a refusal. Nothing of the
// answer is ever quoted but codes of a closed list.
package exchange

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Names that the requests of RFC 8693 and RFC 7523 are made of.
const (
	GrantExchange  = "urn:ietf:params:oauth:grant-type:token-exchange"
	GrantJWTBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	TypeJWT        = "urn:ietf:params:oauth:token-type:jwt"
	TypeAccess     = "urn:ietf:params:oauth:token-type:access_token"
	AssertionJWT   = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// Token reads an access token, which must be a Bearer one. Errors are *credential.Error.
func Token(a *issuer.Answer) (credential.Token, error) {
	if a.Status != http.StatusOK {
		return credential.Token{}, Refused(a)
	}
	o, err := a.Object()
	if err != nil {
		return credential.Token{}, err
	}
	value := o.Text("access_token")
	switch {
	case value == "":
		return credential.Token{}, issuer.NotMinted("answer has no access_token")
	case !strings.EqualFold(o.Text("token_type"), "Bearer"): // DPoP and mac need more than a header
		return credential.Token{}, issuer.NotMinted("token_type must be Bearer")
	}
	return Bearer(value, a.LessAge(o.Seconds("expires_in"))), nil
}

// Bearer makes a credential of one value.
func Bearer(value string, lifetime time.Duration) credential.Token {
	return credential.Token{Values: map[string]secret.Secret{"token": secret.New(value)}, Lifetime: lifetime}
}

// toldCodes are the error codes that may be told: those of RFC 6749, 5.2 and 4.1.2.1, RFC
// 8693, 2.2.2, of Google's APIs (google.rpc.Code) and of Anthropic's.
//
//nolint:gochecknoglobals // a constant table
var toldCodes = []string{
	"invalid_client", "invalid_grant", "unauthorized_client", "invalid_scope", "access_denied", "invalid_request",
	"unsupported_grant_type", "invalid_target", "interaction_required", "invalid_resource",
	"INVALID_ARGUMENT", "FAILED_PRECONDITION", "UNAUTHENTICATED", "PERMISSION_DENIED", "NOT_FOUND", "RESOURCE_EXHAUSTED",
	"invalid_request_error", "authentication_error", "permission_error", "not_found_error", "rate_limit_error",
}

// Refused words an answer that is no success. An error of the issuer's own making is
// Refused: asking again does not help.
func Refused(a *issuer.Answer) error {
	code := codeOf(a)
	err := a.Refusal(code, toldCodes...)
	e, ok := errors.AsType[*credential.Error](err)
	switch {
	case !ok || code == "":
	case code == "temporarily_unavailable", code == "RESOURCE_EXHAUSTED", code == "rate_limit_error":
		e.Kind = credential.Unreachable
	case a.Status >= 400 && a.Status < 500 && e.Kind == credential.NotMinted:
		e.Kind = credential.Refused
	}
	return err
}

// codeOf returns the issuer's error code: the member error, or, where that is an object, its
// status (Google) or type (Anthropic). It may be anything and must not be told as it is.
func codeOf(a *issuer.Answer) string {
	o, err := a.Object()
	if err != nil {
		return ""
	}
	in := o.Object("error")
	for _, code := range []string{o.Text("error"), in.Text("status"), in.Text("type")} {
		if code != "" {
			return code
		}
	}
	return ""
}
