// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/proxy"
)

// entrance is one listener of the configuration, bound.
type entrance struct {
	cfg      config.Listener
	listener net.Listener
	resolver identity.Resolver
	cert     atomic.Pointer[tls.Certificate]
}

// buildEntrances binds every listener.
func (n *Node) buildEntrances() error {
	passed, err := n.inherited()
	if err != nil {
		return err
	}
	defer func() { passed.rest(n) }()
	for _, c := range n.cfg.Listeners {
		e := &entrance{cfg: c}
		if e.resolver, err = n.resolver(c.Identify); err != nil {
			return fmt.Errorf("listener %q: %w", c.Name, err)
		}
		if err := e.loadCert(); err != nil {
			return err
		}
		if e.listener, err = passed.listen(c.Address); err != nil {
			return fmt.Errorf("listener %q: %w", c.Name, err)
		}
		n.entrances = append(n.entrances, e)
		n.onClose(func() { _ = e.listener.Close() })
	}
	return nil
}

// resolver makes the one way in which a listener knows its callers.
func (n *Node) resolver(c config.Identify) (identity.Resolver, error) {
	tds, err := trustDomains(n.cfg.Spiffe.TrustDomains)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Sidecar != nil:
		return identity.NewSidecar(n.source, identity.SidecarOptions{SameUser: c.Sidecar.SameUser}), nil
	case c.X509SVID != nil:
		return identity.NewX509(identity.X509Options{Bundles: n.source, TrustDomains: tds})
	case c.JWTSVID != nil:
		return identity.NewJWT(identity.JWTOptions{Bundles: n.source, TrustDomains: tds, Audience: c.JWTSVID.Audience, MaxTTL: c.JWTSVID.MaxTTL})
	}
	return nil, errors.New("identify must name one way")
}

// loadCert reads the listener's own certificate, at start and on every reload.
func (e *entrance) loadCert() error {
	if e.cfg.TLS == nil {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(e.cfg.TLS.Cert, e.cfg.TLS.Key)
	if err != nil {
		return fmt.Errorf("listener %q: tls: %w", e.cfg.Name, err)
	}
	e.cert.Store(&cert)
	return nil
}

// proxy is the entrance as the data path takes it.
func (e *entrance) proxy() proxy.Entrance {
	out := proxy.Entrance{Name: e.cfg.Name, Listener: e.listener, Identity: e.resolver, Challenge: e.cfg.Identify.JWTSVID != nil}
	if s := e.cfg.Identify.Sidecar; s != nil {
		out.Process = s.SameUser
	}
	if e.cfg.TLS != nil {
		out.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.cert.Load(), nil }}
	}
	return out
}
