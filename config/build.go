// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/oauth2"
	"github.com/egret-proxy/egret/credential/static"
)

// DialFunc opens connections, as http.Transport.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// BuildOptions is what providers need besides their configuration.
type BuildOptions struct {
	// Dial returns how a token endpoint is reached: at "host:port" instead of by
	// resolving where that is not empty, and at private addresses of these ranges only
	// (MUST T10). Required where there is an oauth2 provider.
	Dial func(hostPort string, allowPrivate []netip.Prefix) DialFunc
	// Roots are the node's upstream roots, for token endpoints without their own. Nil: the system's.
	Roots *x509.CertPool
	// Proxy is the node's upstream proxy for token endpoints, where Dial does not go
	// through it itself. Nil: none; the environment is never asked.
	Proxy func(*http.Request) (*url.URL, error)
	// LookupEnv reads egret's environment; nil is os.LookupEnv.
	LookupEnv func(string) (string, bool)
	Logger    *slog.Logger // nil: silent
}

// Build makes the credential providers of a bundle. It asks no issuer, but follows the
// files of static keys from now on: the specs belong to a credential.Cache, which
// closes them, or to the caller. With a fault nothing is left open.
func Build(b *Bundle, opt BuildOptions) ([]credential.Spec, Faults) {
	if opt.LookupEnv == nil {
		opt.LookupEnv = os.LookupEnv
	}
	var specs []credential.Spec
	var faults Faults
	for i := range b.Compiled.Credentials {
		c := &b.Compiled.Credentials[i]
		spec, err := opt.spec(c)
		if err != nil {
			faults = append(faults, Fault{File: b.source(c.Name), Path: "metadata.name", Value: c.Name,
				Rule: "must be a credential that can be used: " + err.Error()})
			continue
		}
		specs = append(specs, spec)
	}
	if len(faults) > 0 {
		for _, s := range specs {
			closeProvider(s.Provider)
		}
		return nil, faults.sorted()
	}
	return specs, nil
}

// source is the file that a credential stands in.
func (b *Bundle) source(name string) string {
	for _, o := range b.Objects {
		if o.Credential != nil && o.Credential.Metadata.Name == name {
			return o.Source
		}
	}
	return ""
}

func (opt BuildOptions) spec(c *api.CompiledCredential) (credential.Spec, error) {
	injections, err := injectionsOf(c)
	if err != nil {
		return credential.Spec{}, err
	}
	provider, err := opt.provider(c)
	if err != nil {
		return credential.Spec{}, err
	}
	spec := credential.Spec{
		Name: c.Name, Generation: c.Generation, Provider: provider, Inject: injections,
		TTL: c.TTL, Shared: c.Shared, AsSelf: c.AsEgret,
	}
	if err := spec.Validate(); err != nil {
		closeProvider(provider)
		return credential.Spec{}, err
	}
	return spec, nil
}

func injectionsOf(c *api.CompiledCredential) ([]credential.Injection, error) {
	var out []credential.Injection
	for _, in := range c.Inject {
		injection, err := credential.NewInjection(credential.InjectionConfig{
			Header: in.Header, Basic: in.Basic, Query: in.Query, Value: in.Value, Remove: in.Remove, Hosts: in.Hosts,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, injection)
	}
	return out, nil
}

func (opt BuildOptions) provider(c *api.CompiledCredential) (credential.Provider, error) {
	switch p := c.Provider; {
	case p.Static != nil:
		s, err := opt.stored(&p.Static.Value, p.Static.Username)
		if err != nil {
			return nil, err // not s, which would be a provider that is a nil pointer
		}
		return s, nil
	case p.OAuth2 != nil:
		return opt.oauth2(c, p.OAuth2)
	}
	return nil, errors.New("it has no provider")
}

// stored follows a secret where the object says that it is.
func (opt BuildOptions) stored(s *api.SecretSource, username string) (*static.Provider, error) {
	o := static.Options{Username: username, Logger: opt.Logger}
	switch {
	case s.File != "":
		return static.File(s.File, o)
	case s.SystemdCredential != "":
		dir, _ := opt.LookupEnv("CREDENTIALS_DIRECTORY")
		return static.Systemd(dir, s.SystemdCredential, o)
	}
	return static.Env(s.Env, opt.LookupEnv, o)
}

func (opt BuildOptions) oauth2(c *api.CompiledCredential, p *api.OAuth2Provider) (credential.Provider, error) {
	if opt.Dial == nil {
		return nil, errors.New("there is no way to reach token endpoints")
	}
	private, err := parsePrefixes(p.AllowPrivate)
	if err != nil {
		return nil, err
	}
	cfg := oauth2.Config{
		TokenURL: p.TokenURL, ClientID: p.ClientID, ClientAuth: p.ClientAuth, AssertionAudience: p.AssertionAudience,
		Scopes: p.Scopes, Audience: p.Audience, Resource: p.Resource,
		Roots: opt.Roots, Dial: opt.Dial(p.Dial, private), Proxy: opt.Proxy, Logger: opt.Logger,
	}
	if c.Roots != nil {
		cfg.Roots = c.Roots
	}
	var key *static.Provider
	if p.ClientSecret != nil {
		if key, err = opt.stored(p.ClientSecret, ""); err != nil {
			return nil, err
		}
		cfg.ClientSecret = key.Value
	}
	provider, err := oauth2.New(cfg)
	if err != nil {
		if key != nil {
			_ = key.Close()
		}
		return nil, err
	}
	return &withSecret{Provider: provider, secret: key}, nil
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

// withSecret is an oauth2 provider together with the client secret that it owns.
type withSecret struct {
	*oauth2.Provider
	secret *static.Provider // nil: none
}

// Close closes both.
func (w *withSecret) Close() error {
	err := w.Provider.Close()
	if w.secret != nil {
		err = errors.Join(err, w.secret.Close())
	}
	return err
}

func closeProvider(p credential.Provider) {
	if c, ok := p.(io.Closer); ok {
		_ = c.Close() // nothing has used it yet
	}
}
