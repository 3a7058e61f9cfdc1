// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
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
			_ = s.Close() // nothing has used it yet
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
	provider, owned, err := opt.provider(c)
	if err != nil {
		return credential.Spec{}, err
	}
	spec := credential.Spec{
		Name: c.Name, Generation: c.Generation, Provider: provider, Owned: owned, Inject: injections,
		TTL: c.TTL, Shared: c.Shared, AsSelf: c.AsEgret, Bare: c.Bare,
	}
	if err := spec.Validate(); err != nil {
		_ = spec.Close() // nothing has used it yet
		return credential.Spec{}, err
	}
	return spec, nil
}

func injectionsOf(c *api.CompiledCredential) ([]credential.Injection, error) {
	var out []credential.Injection
	for _, in := range c.Inject {
		sign, err := signer(&in.Inject)
		if err != nil {
			return nil, err
		}
		injection, err := credential.NewInjection(credential.InjectionConfig{
			Header: in.Header, Basic: in.Basic, Query: in.Query, Signer: sign, Value: in.Value, Remove: in.Remove, Hosts: in.Hosts,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, injection)
	}
	return out, nil
}
