// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/proxy"
)

// flushTime bounds how long the last records are waited for.
const flushTime = 10 * time.Second

func (n *Node) buildAudit() error {
	c := n.cfg.Audit
	var sink audit.Sink
	if c.File == "" || c.File == "-" {
		sink = audit.NewStream(n.opt.Stdout)
	} else {
		f, err := audit.OpenFile(audit.FileOptions{Path: c.File, MaxSize: int64(c.MaxSize), MaxFiles: c.MaxFiles, Logger: n.log})
		if err != nil {
			return fmt.Errorf("audit.file: %w", err)
		}
		n.file, sink = f, f
	}
	o := audit.Options{Writer: sink, Queue: c.Queue, Registerer: n.reg, Logger: n.log, Node: n.cfg.Node}
	if c.OnFull == "drop" {
		o.OnFull = audit.Drop
	}
	j, err := audit.NewLog(o)
	if err != nil {
		return errors.Join(err, sink.Close())
	}
	n.journal = j
	n.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		if err := j.Close(ctx); err != nil {
			n.log.Error("the last records were not written", "error", err)
		}
	})
	return nil
}

// buildIdentity starts following the Workload API, or serves one where there is none.
func (n *Node) buildIdentity() error {
	c := n.cfg.Spiffe
	tds, err := trustDomains(c.TrustDomains)
	if err != nil {
		return err
	}
	address, own := c.WorkloadAPI, c.ID
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	n.onClose(func() { cancel(); running.Wait() })
	if c.Embedded != nil {
		if n.embedded, err = n.serveEmbedded(ctx, &running); err != nil {
			return err
		}
		n.onClose(n.embedded.remove)
		address, own = n.embedded.address, c.Embedded.SpiffeID
	}
	var id spiffeid.ID
	if own != "" {
		if id, err = spiffeid.FromString(own); err != nil {
			return fmt.Errorf("spiffe.id: %q: %w", own, err)
		}
	}
	n.source, err = identity.NewSource(identity.SourceOptions{Address: address, TrustDomains: tds, ID: id, Logger: n.log, Registerer: n.reg})
	if err != nil {
		return err
	}
	running.Go(func() {
		if err := n.source.Run(ctx); err != nil && ctx.Err() == nil {
			n.fail(err)
		}
	})
	return nil
}

// fail ends Run with an error that nothing but a restart can mend.
func (n *Node) fail(err error) {
	select {
	case n.fatal <- err:
	default: // Run ends already
	}
}

func trustDomains(names []string) ([]spiffeid.TrustDomain, error) {
	out := make([]spiffeid.TrustDomain, 0, len(names))
	for _, name := range names {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, fmt.Errorf("spiffe.trustDomains: %q: %w", name, err)
		}
		out = append(out, td)
	}
	return out, nil
}

func (n *Node) buildCredentials() error {
	self := identity.NewSidecar(n.source, identity.SidecarOptions{})
	cache, err := credential.NewCache(credential.CacheOptions{
		Size: n.cfg.Limits.Credentials, Wait: n.cfg.Limits.CredentialWait, Registerer: n.reg, Logger: n.log,
		Self: func() credential.Subject {
			c, err := self.Resolve(context.Background(), identity.Peer{})
			if err != nil {
				return nil
			}
			return c
		},
	})
	if err != nil {
		return err
	}
	n.cache = cache
	n.onClose(cache.Close)
	return nil
}

// buildIssuer loads the intermediates. An ephemeral CA is made later, for what policy lists.
func (n *Node) buildIssuer() error {
	files := n.cfg.Certs.Issuer.File
	if len(files) == 0 {
		return nil
	}
	fi, err := fileIssuer(files)
	if err != nil {
		return err
	}
	n.issuer = fi
	return nil
}

// ours are the certificates that no upstream may be trusted by (MUST T12). An ephemeral
// CA is recognised by its marker.
func (n *Node) ours() []*x509.Certificate {
	if n.issuer == nil {
		return nil
	}
	return n.issuer.Authorities()
}

// buildPolicy loads the governed objects for the first time. Nothing is served without.
func (n *Node) buildPolicy() error {
	r, err := newReloader(n)
	if err != nil {
		return err
	}
	n.reload = r
	return r.first()
}

func fileIssuer(files []config.IssuerFile) (*certs.FileIssuer, error) {
	list := make([]certs.IssuerFile, 0, len(files))
	for _, f := range files {
		list = append(list, certs.IssuerFile{Chain: f.Chain, Key: f.Key})
	}
	fi, err := certs.NewFileIssuer(list...)
	if err != nil {
		return nil, fmt.Errorf("certs.issuer.file: %w", err)
	}
	return fi, nil
}

func (n *Node) buildAuthority() error {
	a, err := certs.NewAuthority(certs.AuthorityOptions{
		Issuer: n.issuer, LeafTTL: n.cfg.Certs.LeafTTL, CacheSize: n.cfg.Limits.Leaves, Registerer: n.reg,
		Listed: func(host string) bool { return n.policy.Load().Lists(host) },
	})
	if err != nil {
		return err
	}
	n.authority = a
	n.onClose(a.Close)
	return nil
}

func (n *Node) buildServer() error {
	l := n.cfg.Limits
	s, err := proxy.New(proxy.Deps{
		Policy: n.policy.Load, Credentials: n.cache, Leaves: n.authority, Upstream: n.pool, Audit: n.journal, Logger: n.log, Registerer: n.reg,
	}, proxy.Limits{
		HeaderBytes: int(l.HeaderBytes), Connections: l.Connections, ConnectionsPerWorkload: l.ConnectionsPerWorkload,
		Handshake: l.Handshake, Idle: l.Idle, TunnelIdle: l.TunnelIdle, MaxStream: l.MaxStream, CredentialWait: l.CredentialWait,
	})
	if err != nil {
		return err
	}
	n.server = s
	n.onClose(s.Close)
	return nil
}
