// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/svid"
	"github.com/egret-proxy/egret/internal/secret"
)

// session is a client token.
type session struct {
	token     secret.Secret
	ends      time.Time     // zero: it does not, or does not tell
	granted   time.Duration // by the login or the last renewal
	renewable bool
	batch     bool // cannot be revoked
	counted   bool // good for a number of calls only
}

// dropTime is what the revocation of a client token may take that nothing hangs on.
const dropTime = 2 * time.Second

// login gets a client token for s.
func (p *Provider) login(ctx context.Context, s credential.Subject) (session, error) {
	in := p.cfg.Login
	what := fmt.Sprintf("login as role %q at %q", in.Role, "auth/"+in.Mount)
	r := request{method: http.MethodPost, path: "auth/" + in.Mount + "/login"}
	var err error
	if in.Method == Cert {
		r.body = map[string]any{"name": in.Role}
		r.cert, err = certificate(ctx, s)
	} else {
		r.body, err = p.assertion(ctx, s)
	}
	if err != nil {
		return session{}, issuer.Within(what, err)
	}
	sent := time.Now()
	a, o, err := p.ask(ctx, r, what, loginHint(in.Method))
	if err != nil {
		return session{}, err
	}
	ses, err := readSession(a, o, sent)
	if err != nil {
		return session{}, issuer.Within(what, err)
	}
	return ses, nil
}

func loginHint(method string) string {
	if method == Cert {
		return "the role must be there, trust the SVID's authority, and admit its SPIFFE ID (allowed_uri_sans)"
	}
	return "the role must be there and admit the JWT-SVID: its bound_audiences, bound_subject and bound_claims, and the method's keys"
}

// assertion is the body of a login with a JWT-SVID for this Vault alone (MUST I10).
func (p *Provider) assertion(ctx context.Context, s credential.Subject) (map[string]any, error) {
	t, err := svid.Fetch(ctx, s, p.cfg.Login.Audience)
	if err != nil {
		return nil, err
	}
	return map[string]any{"role": p.cfg.Login.Role, "jwt": t.Value.Reveal()}, nil
}

func certificate(ctx context.Context, s credential.Subject) (*tls.Certificate, error) {
	if s == nil {
		return nil, fail(credential.Unconfigured, "needs the caller's SVID, and egret does not hold one")
	}
	cert, err := s.X509SVID(ctx)
	if err != nil {
		return nil, credential.OfSubject("X.509-SVID", err)
	}
	if !hasCommonName(&cert) {
		return nil, fail(credential.Refused, "X.509-SVID has no common name, which Vault's method cert names workloads by: give its SPIRE entry a DNS name, or log in with jwt")
	}
	return &cert, nil
}

// hasCommonName is true where it cannot be told. Vault answers 500 to a certificate
// without one ("missing name in alias").
func hasCommonName(cert *tls.Certificate) bool {
	leaf := cert.Leaf
	if leaf == nil && len(cert.Certificate) > 0 {
		leaf, _ = x509.ParseCertificate(cert.Certificate[0])
	}
	return leaf == nil || leaf.Subject.CommonName != ""
}

// readSession reads the member auth of a login, a renewal or an opened response.
func readSession(a *issuer.Answer, o issuer.Object, sent time.Time) (session, error) {
	auth := o.Object("auth")
	s := session{
		token: secret.New(auth.Text("client_token")), granted: told(a, auth), renewable: auth.Bool("renewable"),
		batch: auth.Text("token_type") == "batch", counted: auth.Seconds("num_uses") > 0,
	}
	if s.token.IsZero() {
		return session{}, issuer.NotMinted("answer has no client_token: the login must need no second factor")
	}
	if s.granted > 0 {
		s.ends = sent.Add(s.granted)
	}
	return s, nil
}

// renewSelf asks for as long as was granted before.
func (p *Provider) renewSelf(ctx context.Context, s session) (session, error) {
	const what = "renewing the client token"
	if !s.renewable {
		return s, fail(credential.NotMinted, "%s: it is not renewable", what)
	}
	sent := time.Now()
	r := request{method: http.MethodPost, path: "auth/token/renew-self", token: s.token, body: map[string]any{"increment": seconds(s.granted)}}
	a, o, err := p.ask(ctx, r, what, "it is over, or its policies do not allow auth/token/renew-self")
	if err != nil {
		return s, err
	}
	auth := o.Object("auth")
	got := told(a, auth)
	if short(got, s.granted) {
		return s, fail(credential.NotMinted, "%s: less was given than asked", what)
	}
	s.ends, s.renewable = sent.Add(got), auth.Bool("renewable")
	return s, nil
}

// short reports that a renewal has met a maximum. Vault rounds to seconds.
func short(got, asked time.Duration) bool { return got+2*time.Second < asked }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// revokeSelf ends a client token, and with it every lease that hangs on it.
func (p *Provider) revokeSelf(ctx context.Context, s session) error {
	r := request{method: http.MethodPost, path: "auth/token/revoke-self", token: s.token}
	return p.tell(ctx, r, "revoking the client token", "it is over, or its policies do not allow auth/token/revoke-self")
}

// drop ends a client token that nothing hangs on, as well as that can be done: it ends
// by itself otherwise. It does not depend on ctx, which may be over.
func (p *Provider) drop(ctx context.Context, s session) {
	if s.batch {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
	defer cancel()
	if err := p.revokeSelf(ctx, s); err != nil {
		p.log.Debug("client token is left to its own end", "error", err)
	}
}
