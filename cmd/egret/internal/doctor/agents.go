// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
	"github.com/egret-proxy/egret/identity/process"
	"github.com/egret-proxy/egret/identity/spire"
)

// way is one in which process listeners ask who a caller is.
type way struct {
	attestor string
	pods     bool
}

func wayOf(p *config.Process) way { return way{p.Attestor, p.Reference == config.ReferencePod} }

// agents asks every agent once whether egret may ask it about others, in each way that a
// listener does, and keeps those that let it. The returned function lets go of them.
func (e *examination) agents(ctx context.Context, src *identity.Source) (stop func()) {
	e.attestors = map[way]process.Attestor{}
	var stops []func()
	for _, l := range e.Config.Listeners {
		if l.Identify.Process == nil {
			continue
		}
		w := wayOf(l.Identify.Process)
		if _, asked := e.attestors[w]; asked {
			continue
		}
		at, end := e.attest(ctx, w, src)
		e.attestors[w] = at
		stops = append(stops, end)
	}
	return func() {
		for _, end := range stops {
			end()
		}
	}
}

// attest makes what a way asks; nil where it cannot be asked.
func (e *examination) attest(ctx context.Context, w way, src *identity.Source) (process.Attestor, func()) {
	s := e.Config.Spiffe
	switch {
	case w.attestor == "delegated" && s.Delegated != nil:
		return e.delegated(ctx, s.Delegated.Socket)
	case w.attestor == "broker" && s.Broker != nil:
		return e.broker(ctx, w, src)
	case w.attestor == "embedded" && s.Embedded != nil:
		return e.embedded()
	}
	return nil, func() {}
}

const (
	delegatedAPI = "delegated identity API"
	brokerAPI    = "SPIFFE broker API"
)

// delegated asks the agent whether egret may act for others at all.
func (e *examination) delegated(ctx context.Context, socket string) (process.Attestor, func()) {
	if !e.reaches(ctx, delegatedAPI, socket, "admin_socket_path") {
		return nil, func() {}
	}
	d, err := spire.NewDelegated(socket)
	if err != nil {
		e.bad(Fail, delegatedAPI, "set spiffe.delegated.socket to the agent's admin_socket_path", err)
		return nil, func() {}
	}
	stop := func() { _ = d.Close() }
	asked, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	switch err := d.Authorized(asked); {
	case err == nil:
		e.ok(delegatedAPI, "the agent at %s lets egret ask for others", socket)
		return d, stop
	case errors.Is(err, identity.ErrRevoked):
		e.bad(Fail, delegatedAPI, fmt.Sprintf("set authorized_delegates = [%q] in the agent's configuration and restart it; if it is set, its registration entry must fit egret as it runs here (uid %d)", e.ownID(), uid()), err)
	default:
		e.bad(Fail, delegatedAPI, "see the agent's log, and that authorized_delegates names egret's SPIFFE ID", err)
	}
	return nil, stop
}

// ownID is egret's own, or a place where it goes.
func (e *examination) ownID() string {
	if e.self.id == "" {
		return "spiffe://TRUST-DOMAIN/egret"
	}
	return e.self.id
}

// broker asks the agent whether egret is one of its brokers, for the kind of reference.
func (e *examination) broker(ctx context.Context, w way, src *identity.Source) (process.Attestor, func()) {
	check, kind := brokerAPI, "spiffe.broker.WorkloadPIDReference"
	if w.pods {
		check, kind = brokerAPI+" by pod", "spiffe.broker.KubernetesObjectReference"
	}
	socket, none := e.Config.Spiffe.Broker.Socket, func() {}
	if src == nil || e.self.id == "" {
		e.bad(Fail, check, "see own SVID: a broker shows it to the agent", "egret has no SVID to show")
		return nil, none
	}
	if !e.reaches(ctx, check, socket, "experimental.broker.socket_path") {
		return nil, none
	}
	b, err := spire.NewBroker(spire.BrokerOptions{Address: socket, SVIDs: src, Bundles: src, Agent: ownAgent(src), Pods: w.pods})
	if err != nil {
		e.bad(Fail, check, "set spiffe.broker.socket to the socket_path of experimental.broker in the agent's configuration", err)
		return nil, none
	}
	stop := func() { _ = b.Close() }
	if err := e.brokerAuthorized(ctx, b); err != nil {
		e.bad(Fail, check, brokerChange(err, e.ownID(), kind), err)
		return nil, stop
	}
	e.ok(check, "the agent at %s lets egret ask for others by %s", socket, kind)
	return b, stop
}

func (e *examination) brokerAuthorized(ctx context.Context, b *spire.Broker) error {
	self, err := kernel.Open(pid())
	if err != nil {
		return err
	}
	defer self.Close()
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	return b.Authorized(ctx, process.Reference{Process: self})
}

// brokerChange is what to write into the agent's configuration.
func brokerChange(err error, id, kind string) string {
	switch {
	case errors.Is(err, identity.ErrRevoked):
		return fmt.Sprintf("write into the agent's configuration and restart it: experimental { broker { brokers = [ { id = %q  allowed_reference_types = [ { type_url = %q } ] } ] } }; "+
			"a k8s attestor wants the id in its own experimental { broker { brokers = [ … ] } } too, and with access_policy = \"enforced\" a Kubernetes role with the verb impersonate-via-spire", id, "type.googleapis.com/"+kind)
	case errors.Is(err, identity.ErrInvalid):
		return "give the agent WorkloadAttestor \"k8s\" with experimental { broker { … } }, or set reference: pid"
	}
	return "see the agent's log; for pods its k8s attestor must reach the kubelet"
}

// ownAgent accepts the SPIRE agents of egret's own trust domain.
func ownAgent(src *identity.Source) func(spiffeid.ID, [][]*x509.Certificate) error {
	return func(id spiffeid.ID, chains [][]*x509.Certificate) error {
		own, err := src.SVID()
		if err != nil {
			return err
		}
		return spire.AgentOf(own.ID.TrustDomain())(id, chains)
	}
}

// reaches looks whether this user may connect to a socket of the agent's.
func (e *examination) reaches(ctx context.Context, check, address, setting string) bool {
	path := strings.TrimPrefix(address, "unix://")
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		_ = c.Close()
		return true
	case errors.Is(err, fs.ErrPermission):
		e.bad(Fail, check, fmt.Sprintf("SPIRE makes this socket with mode 0770: stop the agent, let the folder be of egret's group and pass that on (chgrp GROUP %[1]s; chmod 2750 %[1]s; GROUP is one of uid %[2]d), start it again", filepath.Dir(path), uid()), err)
	case errors.Is(err, fs.ErrNotExist):
		e.bad(Fail, check, "let the agent serve it: set "+setting+" to this path in the agent's configuration; in a container, mount its folder", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		e.bad(Fail, check, "start the agent: nobody listens there", err)
	default:
		e.bad(Fail, check, "name the agent's "+setting+" in the settings", err)
	}
	return false
}
