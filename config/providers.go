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
// provider_NAME.go. It also returns the secrets that the provider follows.
func (opt BuildOptions) provider(c *api.CompiledCredential) (credential.Provider, []io.Closer, error) {
	b := &builder{opt: opt, c: c}
	p, err := b.make(&c.Provider)
	if err != nil {
		b.close()
		return nil, nil, err
	}
	return p, b.owned, nil
}

func (b *builder) make(p *api.Provider) (credential.Provider, error) {
	makers := map[string]func() (credential.Provider, error){
		"static":     func() (credential.Provider, error) { return b.static(p.Static) },
		"oauth2":     func() (credential.Provider, error) { return b.oauth2(p.OAuth2) },
		"aws":        func() (credential.Provider, error) { return b.aws(p.AWS) },
		"google":     func() (credential.Provider, error) { return b.google(p.Google) },
		"azure":      func() (credential.Provider, error) { return b.azure(p.Azure) },
		"anthropic":  func() (credential.Provider, error) { return b.anthropic(p.Anthropic) },
		"openai":     func() (credential.Provider, error) { return b.openai(p.OpenAI) },
		"jwt":        func() (credential.Provider, error) { return b.jwt(p.JWT) },
		"mtls":       func() (credential.Provider, error) { return mtls.New(), nil },
		"kubernetes": func() (credential.Provider, error) { return b.kubernetes(p.Kubernetes) },
		"exec":       func() (credential.Provider, error) { return b.exec(p.Exec) },
		"vault":      func() (credential.Provider, error) { return b.vault(p.Vault) },
		"github":     func() (credential.Provider, error) { return b.github(p.GitHub) },
		"slack":      func() (credential.Provider, error) { return b.slack(p.Slack) },
		"salesforce": func() (credential.Provider, error) { return b.salesforce(p.Salesforce) },
		"snowflake":  func() (credential.Provider, error) { return b.snowflake(p.Snowflake) },
	}
	maker, ok := makers[p.Kind()]
	if !ok {
		return nil, errors.New("it has no provider")
	}
	return maker()
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
