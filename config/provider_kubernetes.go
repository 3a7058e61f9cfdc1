// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/credential/kubernetes"
)

func (b *builder) kubernetes(p *api.KubernetesProvider) (credential.Provider, error) {
	cluster, err := b.cluster(p)
	if err != nil {
		return nil, err
	}
	if s := p.Secret; s != nil {
		return orNil(kubernetes.NewSecret(kubernetes.SecretConfig{
			Cluster: cluster, Namespace: s.Namespace, Name: s.Name, Key: s.Key, UsernameKey: s.UsernameKey,
		}))
	}
	cfg := kubernetes.TokenConfig{
		Cluster: cluster, Namespace: p.Token.Namespace, ServiceAccount: p.Token.ServiceAccount,
		Audiences: p.Token.Audiences, Expiration: p.Token.Lifetime(),
	}
	if o := p.Token.BoundObjectRef; o != nil {
		cfg.Bound = &kubernetes.Bound{Kind: o.Kind, Name: o.Name, UID: o.UID}
	}
	return orNil(kubernetes.NewToken(cfg))
}

// cluster says how the API server is reached: as the object says, or as the kubelet tells
// every pod.
func (b *builder) cluster(p *api.KubernetesProvider) (kubernetes.Cluster, error) {
	c := kubernetes.Cluster{Server: p.Server, TokenFile: p.TokenFile, Roots: b.c.Roots}
	e := p.Endpoint
	if p.Server == "" {
		at, err := kubernetes.PodAddress(b.opt.LookupEnv)
		if err != nil {
			return kubernetes.Cluster{}, err
		}
		e = &api.Endpoint{Dial: at}
		c.Server, c.Roots, c.RootsFile = kubernetes.PodServer, nil, kubernetes.PodRootsFile
		if c.TokenFile == "" {
			c.TokenFile = kubernetes.PodTokenFile
		}
	}
	to, err := b.issuer(e)
	if err != nil {
		return kubernetes.Cluster{}, err
	}
	c.Dial, c.Proxy, c.Logger = to.Dial, to.Proxy, to.Logger
	return c, nil
}

// orNil keeps a provider that could not be made from being a nil pointer in an interface.
func orNil[P credential.Provider](p P, err error) (credential.Provider, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}
