// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/embedded/delegate"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/identity/spire"
	"github.com/egret-proxy/egret/internal/sockopt"
)

// buildCallers makes for every listener the one way in which it knows its callers. They
// outlive the data path, which asks them until it is drained, and so are made before it.
func (n *Node) buildCallers() error {
	for _, c := range n.cfg.Listeners {
		r, err := n.resolver(c)
		if err != nil {
			return fmt.Errorf("listener %q: %w", c.Name, err)
		}
		n.callers = append(n.callers, &entrance{cfg: c, resolver: r, diag: n.diag})
	}
	return nil
}

// openDiag opens what the kernel is asked with about connections in egret's own network
// namespace, once.
func (n *Node) openDiag() error {
	if n.diag != nil {
		return nil
	}
	g, err := sockopt.OpenDiag()
	if err != nil {
		return fmt.Errorf("the kernel cannot be asked about callers: %w", err)
	}
	n.diag = g
	n.onClose(g.Close)
	return nil
}

// byProcess makes the resolver of a listener whose callers are local processes.
func (n *Node) byProcess(l config.Listener, tds []spiffeid.TrustDomain) (identity.Resolver, error) {
	c := l.Identify.Process
	if err := n.openDiag(); err != nil {
		return nil, err
	}
	cgroups, err := findCgroups(l)
	if err != nil {
		return nil, err
	}
	attestor, err := n.attestor(c, overTCP(l))
	if err != nil {
		return nil, err
	}
	r, err := process.New(process.Options{
		Attestor: attestor, TrustDomains: tds, Accept: n.isWorkload,
		Cgroups: cgroups, Hybrid: c.Hybrid, RootCgroup: c.RootCgroup,
		Sessions: n.cfg.Limits.Processes, Idle: n.cfg.Limits.ProcessIdle, Logger: n.log,
		Registerer: prometheus.WrapRegistererWith(prometheus.Labels{"listener": l.Name}, n.reg),
	})
	if err != nil {
		return nil, err
	}
	n.onClose(r.Close)
	return &localCallers{processes: r, source: n.source}, nil
}

func overTCP(l config.Listener) bool { return !strings.HasPrefix(l.Address, "unix://") }

// findCgroups looks for what callers over TCP are told apart by, and pods are known by.
// It leaves a unix socket's listener without what it does not need, so that nothing
// about the machine's cgroups can keep it from starting.
func findCgroups(l config.Listener) (*kernel.Cgroups, error) {
	pods := l.Identify.Process.Reference == config.ReferencePod
	if !overTCP(l) && !pods {
		return nil, nil //nolint:nilnil // without it only unix sockets are identified
	}
	c, err := kernel.FindCgroups()
	switch {
	case err != nil && pods:
		return nil, fmt.Errorf("identify.process.reference: pods are known by their cgroup v2, and it cannot be found: %w; mount the host's into the container, or set reference: pid", err)
	case err != nil:
		return nil, fmt.Errorf("identify.process: callers over TCP are told apart by their cgroup v2, and it cannot be found: %w; boot with systemd.unified_cgroup_hierarchy=1, mount it into the container, or listen on a unix socket", err)
	}
	return c, nil
}

// attestor makes a client of what says who local processes are.
func (n *Node) attestor(c *config.Process, tcp bool) (process.Attestor, error) {
	s, name := n.cfg.Spiffe, c.Attestor
	switch {
	case name == "delegated" && s.Delegated != nil:
		d, err := spire.NewDelegated(s.Delegated.Socket)
		if err != nil {
			return nil, err
		}
		n.onClose(func() { _ = d.Close() })
		return d, nil
	case name == "broker" && s.Broker != nil:
		b, err := spire.NewBroker(spire.BrokerOptions{
			Address: s.Broker.Socket, SVIDs: n.source, Bundles: n.source, Agent: n.ownAgent,
			Pods: c.Reference == config.ReferencePod,
		})
		if err != nil {
			return nil, err
		}
		n.onClose(func() { _ = b.Close() })
		return b, nil
	case name == "embedded" && n.embedded != nil:
		return delegate.New(n.embedded.server, delegate.Options{TCP: tcp})
	}
	return nil, fmt.Errorf("identify.process.attestor: %q is not configured under spiffe", name)
}

// ownAgent accepts the SPIRE agents of egret's own trust domain.
func (n *Node) ownAgent(id spiffeid.ID, chains [][]*x509.Certificate) error {
	own, err := n.source.SVID()
	if err != nil {
		return err
	}
	return spire.AgentOf(own.ID.TrustDomain())(id, chains)
}

// isWorkload reports whether a local process may be this: a Workload of the policy in
// force, and never egret itself, whose identity a process of its user could otherwise
// have (MUST I7, I8).
func (n *Node) isWorkload(id spiffeid.ID) bool {
	own, err := n.source.SVID()
	return err == nil && id != own.ID && n.policy.Load().Workload(id) != nil
}

// localCallers knows nobody until egret knows itself: until then it cannot tell its own
// identity from its callers'.
type localCallers struct {
	processes *process.Resolver
	source    *identity.Source
}

// Resolve implements identity.Resolver.
func (l *localCallers) Resolve(ctx context.Context, p identity.Peer) (identity.Caller, error) {
	if _, err := l.source.SVID(); err != nil {
		return nil, err
	}
	return l.processes.Resolve(ctx, p)
}

// resolver makes the one way in which a listener knows its callers.
func (n *Node) resolver(l config.Listener) (identity.Resolver, error) {
	tds, err := trustDomains(n.cfg.Spiffe.TrustDomains)
	if err != nil {
		return nil, err
	}
	switch c := l.Identify; {
	case c.Sidecar != nil && c.Sidecar.SameUser:
		if err := n.openDiag(); err != nil {
			return nil, err
		}
		return identity.NewSidecar(n.source, identity.SidecarOptions{SameUser: true}), nil
	case c.Sidecar != nil:
		return identity.NewSidecar(n.source, identity.SidecarOptions{}), nil
	case c.X509SVID != nil:
		return identity.NewX509(identity.X509Options{Bundles: n.source, TrustDomains: tds})
	case c.JWTSVID != nil:
		return identity.NewJWT(identity.JWTOptions{Bundles: n.source, TrustDomains: tds, Audience: c.JWTSVID.Audience, MaxTTL: c.JWTSVID.MaxTTL})
	case c.Process != nil:
		return n.byProcess(l, tds)
	case c.KubernetesToken != nil:
		return n.byKubernetesToken(c.KubernetesToken)
	}
	return nil, errors.New("identify must name one way")
}
