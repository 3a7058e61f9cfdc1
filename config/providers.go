// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"io"
	"net/netip"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/issuer"
	"github.com/egret-proxy/egret/credential/mtls"
	"github.com/egret-proxy/egret/credential/static"
)

// provider makes the provider of a credential: a line for each kind, and a file
// provider_NAME.go.
func (opt BuildOptions) provider(c *api.CompiledCredential) (credential.Provider, error) {
	b := &builder{opt: opt, c: c}
	p, err := b.make(&c.Provider)
	if err != nil {
		b.close()
		return nil, err
	}
	if len(b.owned) == 0 {
		return p, nil
	}
	return &withSecrets{Provider: p, owned: b.owned}, nil
}

func (b *builder) make(p *api.Provider) (credential.Provider, error) {
	switch {
	case p.Static != nil:
		return b.static(p.Static)
	case p.OAuth2 != nil:
		return b.oauth2(p.OAuth2)
	case p.AWS != nil:
		return b.aws(p.AWS)
	case p.Google != nil:
		return b.google(p.Google)
	case p.Azure != nil:
		return b.azure(p.Azure)
	case p.Anthropic != nil:
		return b.anthropic(p.Anthropic)
	case p.OpenAI != nil:
		return b.openai(p.OpenAI)
	case p.JWT != nil:
		return b.jwt(p.JWT)
	case p.MTLS != nil:
		return mtls.New(), nil
	case p.Kubernetes != nil:
		return b.kubernetes(p.Kubernetes)
	case p.Exec != nil:
		return b.exec(p.Exec)
	case p.Vault != nil:
		return b.vault(p.Vault)
	case p.GitHub != nil:
		return b.github(p.GitHub)
	case p.Slack != nil:
		return b.slack(p.Slack)
	case p.Salesforce != nil:
		return b.salesforce(p.Salesforce)
	case p.Snowflake != nil:
		return b.snowflake(p.Snowflake)
	}
	return nil, errors.New("it has no provider")
}

// builder makes one provider and remembers the secrets that it follows.
type builder struct {
	opt   BuildOptions
	c     *api.CompiledCredential
	owned []io.Closer
}

// stored follows a secret where the object says that it is. It belongs to the provider,
// which reads it with Value for every call, so that a rotation is seen at once.
func (b *builder) stored(s *api.SecretSource) (*static.Provider, error) {
	p, err := b.opt.stored(s, "")
	if err == nil {
		b.owned = append(b.owned, p)
	}
	return p, err
}

func (b *builder) close() {
	for _, c := range b.owned {
		_ = c.Close() // nothing has used it yet
	}
}

// issuer says how the provider's issuer is reached. e may be nil: resolved, at public
// addresses, with the node's roots.
func (b *builder) issuer(e *api.Endpoint) (issuer.Options, error) {
	if b.opt.Dial == nil {
		return issuer.Options{}, errors.New("there is no way to reach issuers")
	}
	if e == nil {
		e = &api.Endpoint{}
	}
	private, err := parsePrefixes(e.AllowPrivate)
	if err != nil {
		return issuer.Options{}, err
	}
	o := issuer.Options{Roots: b.opt.Roots, Dial: b.opt.Dial(e.Dial, private), Proxy: b.opt.Proxy, Logger: b.opt.Logger}
	if b.c.Roots != nil {
		o.Roots = b.c.Roots
	}
	return o, nil
}

func parsePrefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// withSecrets is a provider together with the secrets that it owns.
type withSecrets struct {
	credential.Provider
	owned []io.Closer
}

// Close closes all of them, the provider first.
func (w *withSecrets) Close() error {
	var err error
	if c, ok := w.Provider.(io.Closer); ok {
		err = c.Close()
	}
	for _, c := range w.owned {
		err = errors.Join(err, c.Close())
	}
	return err
}
