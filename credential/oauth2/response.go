// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
)

// read turns an answer into a token or a typed error, which never quotes the answer.
func (p *Provider) read(a *issuer.Answer) (credential.Token, error) {
	if a.Status != http.StatusOK {
		return credential.Token{}, refusal(a)
	}
	o, err := a.Object()
	if err != nil {
		return credential.Token{}, err
	}
	if p.cfg.Grant == TokenExchange {
		if err := p.checkIssued(o); err != nil {
			return credential.Token{}, err
		}
	}
	value := o.Text("access_token")
	switch {
	case value == "":
		return credential.Token{}, issuer.NotMinted("answer has no access_token")
	case !p.tokenType(o.Text("token_type")):
		return credential.Token{}, issuer.NotMinted("token_type must be Bearer")
	}
	return exchange.Bearer(value, a.LessAge(o.Seconds("expires_in"))), nil
}

// tokenType refuses what needs more than a header (DPoP, mac). What is no access token
// has none: N_A (RFC 8693, 2.2.1).
func (p *Provider) tokenType(s string) bool {
	other := p.cfg.RequestedTokenType != "" && p.cfg.RequestedTokenType != exchange.TypeAccess
	return strings.EqualFold(s, "Bearer") || other && strings.EqualFold(s, "N_A")
}

// checkIssued holds a server to the type that was asked for: an ID token, say, opens
// nothing but shows the workload's name to whom it is sent.
func (p *Provider) checkIssued(o issuer.Object) error {
	switch got, want := o.Text("issued_token_type"), p.cfg.RequestedTokenType; {
	case got == "":
		return issuer.NotMinted("answer has no issued_token_type (RFC 8693, 2.2.1)")
	case want != "" && got != want:
		return issuer.NotMinted("issued_token_type must be %q", want)
	case want == "" && got != exchange.TypeAccess && got != exchange.TypeJWT:
		return issuer.NotMinted("issued_token_type must be that of an access token or a JWT")
	}
	return nil
}

// refusal maps every answer but 200.
func refusal(a *issuer.Answer) error {
	err := exchange.Refused(a)
	if a.Status >= http.StatusOK && a.Status < 300 {
		return issuer.NotMinted("status %d must be 200", a.Status)
	}
	o, _ := a.Object() // of any status
	switch o.Text("error") {
	case "server_error", "slow_down":
		if e, ok := errors.AsType[*credential.Error](err); ok {
			e.Kind = credential.Unreachable
		}
	}
	return err
}

// bind keeps a token together with the certificate that it was got with (RFC 8705, 3): the
// upstream is shown the same one. A JWT says whether it is bound, and then must be bound
// to this one; what cannot be read is taken for bound.
func bind(tok credential.Token, cert *tls.Certificate) (credential.Token, error) {
	if cert == nil {
		return tok, nil
	}
	thumbprint, readable := confirmation(tok.Values["token"].Reveal())
	sum := sha256.Sum256(cert.Certificate[0])
	switch {
	case readable && thumbprint == "":
		return tok, nil
	case readable && thumbprint != base64.RawURLEncoding.EncodeToString(sum[:]):
		return credential.Token{}, issuer.NotMinted("the token is bound to another certificate (cnf)")
	}
	leaf, err := leafOf(cert)
	if err != nil {
		return credential.Token{}, issuer.NotMinted("X.509-SVID: %w", err)
	}
	left := time.Until(leaf.NotAfter) // both end together
	tok.Certificate, tok.Lifetime = cert, min(cmp.Or(tok.Lifetime, left), left)
	return tok, nil
}

// confirmation reads cnf.x5t#S256 of a JWT. The upstream checks the signature.
func confirmation(token string) (thumbprint string, readable bool) {
	_, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if !ok || err != nil || strings.Contains(signature, ".") {
		return "", false
	}
	var claims issuer.Object
	if json.Unmarshal(raw, &claims) != nil || claims == nil {
		return "", false
	}
	return claims.Object("cnf").Text("x5t#S256"), true
}
