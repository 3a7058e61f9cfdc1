// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// Statuses of Vault alone.
const (
	statusBehind     = http.StatusPreconditionFailed // a standby has not heard of the token yet
	statusRecovery   = 472                           // a standby of disaster recovery
	statusNotServing = 473                           // a performance standby
)

const (
	behindTries = 4
	behindWait  = 150 * time.Millisecond // doubled with each try
)

// request is one call of the API.
type request struct {
	method string
	path   string // below /v1/, with its query
	body   map[string]any
	token  secret.Secret
	cert   *tls.Certificate
}

// call asks, again where a standby has not caught up with a token that was just made. An
// answer of any status is none of its errors, which are those of issuer.Client.Ask.
func (p *Provider) call(ctx context.Context, r request) (*issuer.Answer, error) {
	for try, wait := 1, behindWait; ; try, wait = try+1, 2*wait {
		a, err := p.once(ctx, r)
		if err != nil || a.Status != statusBehind || try == behindTries {
			return a, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return a, nil
		}
	}
}

func (p *Provider) once(ctx context.Context, r request) (*issuer.Answer, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, p.base+r.path, body(r.body))
	if err != nil {
		return nil, fail(credential.Unconfigured, "the address cannot be asked")
	}
	req.Header.Set("X-Vault-Request", "true") // a listener may demand it, against forged requests
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !r.token.IsZero() {
		req.Header.Set("X-Vault-Token", r.token.Reveal())
	}
	if p.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", p.cfg.Namespace)
	}
	return p.client.Ask(req, r.cert)
}

func body(members map[string]any) *strings.Reader {
	if members == nil {
		return strings.NewReader("")
	}
	text, err := json.Marshal(members)
	if err != nil {
		return strings.NewReader("") // not reached: strings and numbers only
	}
	return strings.NewReader(string(text))
}

// ask is call for an answer that must be a JSON object. what says what is done, and
// hint what to look at where Vault refuses it; both come from configuration.
func (p *Provider) ask(ctx context.Context, r request, what, hint string) (*issuer.Answer, issuer.Object, error) {
	a, err := p.call(ctx, r)
	if err != nil {
		return nil, nil, issuer.Within(what, err)
	}
	if a.Status != http.StatusOK {
		return nil, nil, issuer.Within(what, refusal(a, hint))
	}
	o, err := a.Object()
	if err != nil {
		return nil, nil, issuer.Within(what, err)
	}
	return a, o, nil
}

// tell is call for what has no answer.
func (p *Provider) tell(ctx context.Context, r request, what, hint string) error {
	a, err := p.call(ctx, r)
	if err != nil {
		return issuer.Within(what, err)
	}
	if a.Status < 200 || a.Status > 299 {
		return issuer.Within(what, refusal(a, hint))
	}
	return nil
}

// refusal words a status. Vault answers 400 to a login that its role does not admit, and
// to a lease that it does not know.
func refusal(a *issuer.Answer, hint string) error {
	e := &credential.Error{Kind: credential.NotMinted, Err: errors.New("is not worded")}
	if worded, ok := errors.AsType[*credential.Error](a.Refusal("")); ok {
		e = worded
	}
	switch s := a.Status; {
	case s == http.StatusBadRequest, s == http.StatusForbidden:
		e.Kind, e.Err = credential.Refused, fmt.Errorf("status %d: %s", s, hint)
	case s == http.StatusNotFound:
		e.Err = errors.New("status 404: nothing is there: check mount, path and version, and the namespace")
	case s == statusBehind, s == statusRecovery, s == statusNotServing:
		e.Kind, e.Err = credential.Unreachable, fmt.Errorf("status %d: this node does not serve it now", s)
	case s == http.StatusServiceUnavailable:
		e.Err = errors.New("status 503: it is sealed, or no node of it is active")
	case s >= 300 && s < 400:
		e.Err = fmt.Errorf("status %d: redirects are not followed: the address must be that of the active node, or of a load balancer", s)
	}
	return e
}

func fail(k credential.Kind, format string, args ...any) *credential.Error {
	return &credential.Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// kindOf is the kind of an error, Unreachable for one that has none.
func kindOf(err error) credential.Kind {
	if e, ok := errors.AsType[*credential.Error](err); ok {
		return e.Kind
	}
	return credential.Unreachable
}

// absurd is a duration that nobody means.
const absurd = 10 * 365 * 24 * time.Hour

// told reads a lifetime in seconds; zero: not told (MUST C5).
func told(a *issuer.Answer, o issuer.Object) time.Duration {
	if d := o.Seconds("lease_duration"); d <= absurd {
		return a.LessAge(d)
	}
	return 0
}
