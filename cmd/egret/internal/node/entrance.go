// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"

	"github.com/coreos/go-systemd/v22/activation"

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

// buildEntrances binds every listener, so that a port in use is told at once.
func (n *Node) buildEntrances() error {
	sockets, err := systemdSockets()
	if err != nil {
		return err
	}
	for _, c := range n.cfg.Listeners {
		e := &entrance{cfg: c}
		if e.resolver, err = n.resolver(c.Identify); err != nil {
			return fmt.Errorf("listener %q: %w", c.Name, err)
		}
		if err := e.loadCert(); err != nil {
			return err
		}
		if e.listener = n.opt.Listeners[c.Name]; e.listener == nil {
			if e.listener, err = listen(c.Address, sockets); err != nil {
				return fmt.Errorf("listener %q: %w", c.Name, err)
			}
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

// systemdSockets are those that systemd has opened for us, by FileDescriptorName=.
func systemdSockets() (map[string][]net.Listener, error) {
	m, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	return m, nil
}

func listen(address string, sockets map[string][]net.Listener) (net.Listener, error) {
	if name, ok := strings.CutPrefix(address, "systemd:"); ok {
		if l := sockets[name]; len(l) == 1 {
			return l[0], nil
		}
		return nil, fmt.Errorf("address %q: systemd passed %d sockets of this name: set FileDescriptorName=%s in the socket unit", address, len(sockets[name]), name)
	}
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		return listenUnix(path)
	}
	return net.Listen("tcp", address)
}

// listenUnix binds a socket that only egret's own user may connect to; a stale one of an
// earlier run is replaced, a live one is not.
func listenUnix(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("address %q: another process listens there", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(path)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
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

// is reports whether an address reaches this listener.
func (e *entrance) is(ap netip.AddrPort) bool {
	mine, err := netip.ParseAddrPort(e.listener.Addr().String())
	if err != nil || mine.Port() != ap.Port() {
		return false
	}
	if !mine.Addr().IsUnspecified() {
		return mine.Addr().Unmap() == ap.Addr()
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Unmap() == ap.Addr() {
			return true
		}
	}
	return false
}
