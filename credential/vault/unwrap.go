// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/internal/secret"
)

// opened is what the last wrapping token held. That is of single use, so its content is
// kept as long as it lives, in a file too.
type opened struct {
	mu     sync.Mutex // held while Vault is asked: two must not open one token
	tried  string     // name of the token that was sent to be opened, whatever came of it
	loaded bool       // the file has been read
	content
}

// content of a wrapping token.
type content struct {
	by     string // name of the token
	values map[string]secret.Secret
	ends   time.Time // zero: not told
}

// unwrap gives what the wrapping token holds.
func (p *Provider) unwrap(ctx context.Context) (credential.Token, error) {
	start := time.Now()
	by, err := p.cfg.Unwrap.Token()
	if err != nil {
		return credential.Token{}, issuer.Within("wrapping token", err)
	}
	p.opened.mu.Lock()
	defer p.opened.mu.Unlock()
	if err := p.recall(); err != nil {
		return credential.Token{}, err
	}
	if p.opened.by != nameOf(by) {
		if err := p.lookup(ctx, by); err != nil {
			return credential.Token{}, err
		}
		if err := p.open(ctx, by); err != nil {
			return credential.Token{}, err
		}
	}
	return p.opened.token(start)
}

// token is what is left of the content.
func (c *content) token(start time.Time) (credential.Token, error) {
	tok := plain(c.values)
	if c.ends.IsZero() {
		return tok, nil
	}
	if !start.Before(c.ends) {
		return credential.Token{}, fail(credential.Refused, "what the wrapping token held is over: put a new one in its place")
	}
	tok.Lifetime = min(c.ends.Sub(start), longest)
	return tok, nil
}

// lookup asks whether the wrapping token is still whole, and was made where it should
// have been. Where not, somebody else may have opened it, or put in another.
func (p *Provider) lookup(ctx context.Context, by secret.Secret) error {
	const what = "looking up the wrapping token"
	const whole = "it is over, or was opened before"
	r := request{method: http.MethodPost, path: "sys/wrapping/lookup", body: map[string]any{"token": by.Reveal()}}
	_, o, err := p.ask(ctx, r, what, whole)
	if err != nil {
		if kindOf(err) == credential.Refused {
			p.alarm(by, whole)
		}
		return err
	}
	made := o.Object("data").Text("creation_path")
	switch made = strings.Trim(made, "/"); made {
	case p.cfg.Unwrap.CreationPath:
		return nil
	case "":
		return issuer.NotMinted("%s: answer has no creation_path", what)
	}
	p.alarm(by, "it was made by another path than "+p.cfg.Unwrap.CreationPath)
	return fail(credential.Refused, "%s: it must have been made by %q, and was not", what, p.cfg.Unwrap.CreationPath)
}

// alarm is loud, unless egret itself has opened the token and lost the answer.
func (p *Provider) alarm(by secret.Secret, why string) {
	if p.opened.tried == nameOf(by) {
		p.log.Warn("wrapping token was opened by egret before, and its content lost", "hint", "put a new one in its place")
		return
	}
	p.log.Error("wrapping token is not whole: somebody else may hold its content", "why", why, "fingerprint", by.Fingerprint(),
		"hint", "treat the secret as known to others, find in Vault's audit log who opened it, and make a new one")
}

// open takes the content out, once it is certain that it can be kept.
func (p *Provider) open(ctx context.Context, by secret.Secret) error {
	const what = "opening the wrapping token"
	file, err := newState(p.cfg.Unwrap.State)
	if err != nil {
		return fail(credential.Unreachable, "%s: its content could not be kept: %w", what, err)
	}
	defer file.discard()
	sent := time.Now()
	r := request{method: http.MethodPost, path: "sys/wrapping/unwrap", token: by, body: map[string]any{}}
	a, o, err := p.ask(ctx, r, what, "it was opened by somebody else just now")
	if err != nil {
		if kindOf(err) == credential.Refused {
			p.alarm(by, "it was opened after it was looked up")
		}
		p.opened.tried = nameOf(by)
		return err
	}
	p.opened.tried = nameOf(by)
	c := content{by: nameOf(by)}
	if c.values, c.ends, err = p.read(a, o, sent); err != nil {
		return issuer.Within(what, err)
	}
	p.opened.content = c
	if err := file.keep(c, p.cfg.Keys); err != nil {
		p.log.Error("content of the wrapping token is not kept: a restart of egret loses it", "file", p.cfg.Unwrap.State, "error", err)
	}
	return nil
}

// read takes the values out of a response that was wrapped: a login's, a dynamic
// secret's, or that of a KV engine of either version.
func (p *Provider) read(a *issuer.Answer, o issuer.Object, sent time.Time) (map[string]secret.Secret, time.Time, error) {
	from, life := o.Object("data"), time.Duration(0)
	if o.Text("lease_id") != "" {
		life = told(a, o)
	}
	if in, ok := version2(from); ok {
		from = in
	}
	if auth := o.Object("auth"); auth != nil {
		from, life = auth, told(a, auth)
	}
	values, err := pick(from, p.cfg.Keys)
	if err != nil || life == 0 {
		return values, time.Time{}, err
	}
	return values, sent.Add(life), nil
}
