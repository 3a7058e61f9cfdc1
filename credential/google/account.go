// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package google

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/exchange"
	"github.com/egret-proxy/egret/credential/issuer"
)

// accessRequest is the body of generateAccessToken, idRequest that of generateIdToken.
type accessRequest struct {
	Delegates []string `json:"delegates,omitempty"`
	Scope     []string `json:"scope"`
	Lifetime  string   `json:"lifetime,omitempty"` // "3600s"
}

type idRequest struct {
	Delegates    []string `json:"delegates,omitempty"`
	Audience     string   `json:"audience"`
	IncludeEmail bool     `json:"includeEmail,omitempty"`
}

// impersonate asks for a token of the service account, as the federated identity, which
// needs roles/iam.workloadIdentityUser on it.
func (p *Provider) impersonate(ctx context.Context, as credential.Token) (credential.Token, error) {
	delegates := make([]string, 0, len(p.cfg.Delegates))
	for _, d := range p.cfg.Delegates {
		delegates = append(delegates, "projects/-/serviceAccounts/"+d)
	}
	if p.cfg.IDTokenAudience != "" {
		a, err := p.call(ctx, as, "generateIdToken", idRequest{delegates, p.cfg.IDTokenAudience, p.cfg.IncludeEmail})
		if err != nil {
			return credential.Token{}, err
		}
		return idToken(a)
	}
	body := accessRequest{Delegates: delegates, Scope: p.cfg.Scopes}
	if p.cfg.Lifetime > 0 {
		body.Lifetime = fmt.Sprintf("%ds", int64(p.cfg.Lifetime.Seconds()))
	}
	a, err := p.call(ctx, as, "generateAccessToken", body)
	if err != nil {
		return credential.Token{}, err
	}
	return accessToken(a)
}

func (p *Provider) call(ctx context.Context, as credential.Token, method string, body any) (issued, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return issued{}, err
	}
	header := http.Header{"Authorization": {"Bearer " + as.Values["token"].Reveal()}}
	a, err := p.client.PostJSON(ctx, credentialsURL+url.PathEscape(p.cfg.ServiceAccount)+":"+method, string(text), header)
	if err != nil {
		return issued{}, err
	}
	if a.Status != http.StatusOK {
		return issued{}, exchange.Refused(a)
	}
	o, err := a.Object()
	return issued{a, o}, err
}

// issued is a good answer of the IAM Credentials API.
type issued struct {
	*issuer.Answer
	fields issuer.Object
}

func accessToken(a issued) (credential.Token, error) {
	value := a.fields.Text("accessToken")
	if value == "" {
		return credential.Token{}, issuer.NotMinted("answer has no accessToken")
	}
	return exchange.Bearer(value, a.LessAge(a.Until(a.fields, "expireTime"))), nil
}

// idToken reads an ID token, whose end only its claims tell. It is not verified: it comes
// from Google itself, and is for the SaaS to verify.
func idToken(a issued) (credential.Token, error) {
	value := a.fields.Text("token")
	if value == "" {
		return credential.Token{}, issuer.NotMinted("answer has no token")
	}
	_, rest, _ := strings.Cut(value, ".")
	payload, _, _ := strings.Cut(rest, ".")
	raw, _ := base64.RawURLEncoding.DecodeString(payload) // what cannot be read has no claims
	var claims issuer.Object
	if json.Unmarshal(raw, &claims) != nil {
		return credential.Token{}, issuer.NotMinted("the ID token cannot be read")
	}
	return exchange.Bearer(value, a.LessAge(claimedLife(claims))), nil
}

// claimedLife is how long a token was made for: both ends are of the issuer's own clock.
// Zero: not told.
func claimedLife(claims issuer.Object) time.Duration {
	issued, ends := claims.Seconds("iat"), claims.Seconds("exp")
	if issued == 0 || ends <= issued {
		return 0
	}
	return ends - issued
}
