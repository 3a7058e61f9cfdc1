// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package oauth2

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/issuer/keyjwt"
	"github.com/egret-proxy/egret/credential/svid"
	"github.com/egret-proxy/egret/internal/secret"
)

// assertionSPIFFE is that of draft-ietf-oauth-spiffe-client-auth-02, 3.1.
const assertionSPIFFE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"

// assertionLife is how long a client assertion can be used: it is, once, at once.
const assertionLife = 2 * time.Minute

// proof is who the client is, for one request.
type proof struct {
	basic       string // Authorization
	form        url.Values
	certificate *tls.Certificate
}

func (p *Provider) prove(ctx context.Context, s credential.Subject) (proof, error) {
	switch p.cfg.ClientAuth {
	case PrivateKeyJWT:
		return p.proveKey()
	case JWTSPIFFE:
		return p.proveJWT(ctx, s)
	case TLSClientAuth, SelfSignedTLS:
		return p.proveX509(ctx, s)
	case None:
		form := url.Values{}
		setIf(form, "client_id", p.cfg.ClientID)
		return proof{form: form}, nil
	}
	return p.proveSecret()
}

func (p *Provider) proveSecret() (proof, error) {
	sec, err := read("client secret", p.cfg.ClientSecret)
	if err != nil {
		return proof{}, err
	}
	if p.cfg.ClientAuth == ClientSecretPost {
		return proof{form: url.Values{"client_id": {p.cfg.ClientID}, "client_secret": {sec.Reveal()}}}, nil
	}
	// RFC 6749, 2.3.1: both are form-encoded first; base64 alone breaks on ":" and "%".
	pair := url.QueryEscape(p.cfg.ClientID) + ":" + url.QueryEscape(sec.Reveal())
	return proof{basic: "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))}, nil
}

// read reads a secret, which may have been replaced since.
func read(what string, from func() (secret.Secret, error)) (secret.Secret, error) {
	s, err := from()
	if err != nil {
		return secret.Secret{}, issuer.Within(what, err)
	}
	if s.IsZero() {
		return secret.Secret{}, issuer.NotMinted("%s is empty", what)
	}
	return s, nil
}

// proveKey is private_key_jwt (OpenID Connect Core, 9; RFC 7523, 2.2).
func (p *Provider) proveKey() (proof, error) {
	text, err := read("client key", p.cfg.ClientKey.Key)
	if err != nil {
		return proof{}, err
	}
	key, err := keyjwt.Parse(text)
	if err != nil {
		return proof{}, issuer.NotMinted("client key: %w", err)
	}
	now := time.Now()
	signed, err := key.Sign(keyjwt.Header{Algorithm: p.cfg.ClientKey.Algorithm, ID: p.cfg.ClientKey.ID}, map[string]any{
		"iss": p.cfg.ClientID, "sub": p.cfg.ClientID, "aud": p.cfg.AssertionAudience, "jti": keyjwt.NewID(),
		"iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
	if err != nil {
		return proof{}, issuer.NotMinted("client key: %w", err)
	}
	return proof{form: url.Values{
		"client_id": {p.cfg.ClientID}, "client_assertion_type": {exchange.AssertionJWT}, "client_assertion": {signed.Reveal()},
	}}, nil
}

// proveJWT presents the caller's own JWT-SVID, fetched for this server alone (MUST I10).
func (p *Provider) proveJWT(ctx context.Context, s credential.Subject) (proof, error) {
	token, err := svid.Fetch(ctx, s, p.cfg.AssertionAudience)
	if err != nil {
		return proof{}, issuer.Within(JWTSPIFFE, err)
	}
	form := url.Values{"client_assertion_type": {assertionSPIFFE}, "client_assertion": {token.Value.Reveal()}}
	setIf(form, "client_id", p.cfg.ClientID)
	return proof{form: form}, nil
}

// proveX509 presents the caller's own X.509-SVID in the handshake (RFC 8705, 2). The
// client's name is the SPIFFE ID where none is configured.
func (p *Provider) proveX509(ctx context.Context, s credential.Subject) (proof, error) {
	if s == nil {
		return proof{}, &credential.Error{Kind: credential.Unconfigured, Err: fmt.Errorf("%s needs the caller's identity, and there is none", p.cfg.ClientAuth)}
	}
	cert, err := s.X509SVID(ctx)
	if err != nil {
		return proof{}, credential.OfSubject("X.509-SVID", err)
	}
	leaf, err := leafOf(&cert)
	if err != nil {
		return proof{}, issuer.NotMinted("X.509-SVID: %w", err)
	}
	id := p.cfg.ClientID
	if id == "" {
		id = leaf.URIs[0].String()
	}
	return proof{form: url.Values{"client_id": {id}}, certificate: &cert}, nil
}

func leafOf(cert *tls.Certificate) (*x509.Certificate, error) {
	if len(cert.Certificate) == 0 || cert.PrivateKey == nil {
		return nil, errors.New("has no certificate or no key")
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	switch {
	case err != nil || len(leaf.URIs) != 1:
		return nil, errors.New("has no SPIFFE ID")
	case !time.Now().Before(leaf.NotAfter):
		return nil, errors.New("is over")
	}
	return leaf, nil
}
