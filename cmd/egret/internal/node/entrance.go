// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/tls"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/sockopt"
	"github.com/egret-proxy/egret/proxy"
)

// entrance is one listener of the configuration, bound.
type entrance struct {
	cfg      config.Listener
	listener net.Listener
	resolver identity.Resolver
	diag     *sockopt.Diag // nil where the kernel is not asked about callers
	cert     atomic.Pointer[tls.Certificate]
}

// buildEntrances binds every listener.
func (n *Node) buildEntrances() error {
	passed, err := n.inherited()
	if err != nil {
		return err
	}
	defer func() { passed.rest(n) }()
	for _, e := range n.callers {
		if err := e.loadCert(); err != nil {
			return err
		}
		if socket, ok := strings.CutPrefix(e.cfg.Address, config.SteerPrefix); ok {
			e.listener = n.newSteered(socket, e)
		} else if e.listener, err = e.listen(passed); err != nil {
			return fmt.Errorf("listener %q: %w", e.cfg.Name, err)
		}
		n.entrances = append(n.entrances, e)
		n.onClose(func() { _ = e.listener.Close() })
	}
	return nil
}

// listen binds the listener's address.
func (e *entrance) listen(passed sockets) (net.Listener, error) {
	if e.cfg.TProxy && !strings.HasPrefix(e.cfg.Address, "systemd:") { // systemd sets it itself: Transparent=yes
		return sockopt.ListenTransparent(context.Background(), e.cfg.Address)
	}
	return passed.listen(e.cfg.Address, e.mode())
}

// mode is that of the listener's unix socket: egret's own user only, unless the kernel
// tells egret which user it is that connects.
func (e *entrance) mode() fs.FileMode {
	if e.cfg.Identify.Process != nil {
		return 0o666
	}
	return 0o600
}

// steering is the listener of pods that egret steer leads here.
type steering interface {
	run(ctx context.Context)
	health() error
}

// serve serves the entrance until ctx ends, or the data path is drained.
func (e *entrance) serve(ctx context.Context, s *proxy.Server) error {
	if pods, ok := e.listener.(steering); ok {
		pods.run(ctx)
		return nil
	}
	return s.Serve(e.proxy())
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
	c := e.cfg.Identify
	out := proxy.Entrance{
		Name: e.cfg.Name, Listener: e.listener, Identity: e.resolver, Diag: e.diag,
		Challenge: c.JWTSVID != nil || c.KubernetesToken != nil,
		Process:   c.Process != nil || c.Sidecar != nil && c.Sidecar.SameUser,
	}
	if e.cfg.Kind == "transparent" {
		out.Original = sockopt.OriginalDst
	}
	if e.cfg.TLS != nil {
		out.TLS = &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return e.cert.Load(), nil }}
	}
	return out
}
