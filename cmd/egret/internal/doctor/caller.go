// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/spire"
)

func sourceOptions(c *config.Node, tds []spiffeid.TrustDomain) identity.SourceOptions {
	o := identity.SourceOptions{Address: c.Spiffe.WorkloadAPI, TrustDomains: tds}
	o.ID, _ = spiffeid.FromString(c.Spiffe.ID) // empty, or checked by config
	return o
}

// delegation asks the agent whether egret may act for others at all.
func (e *examination) delegation(ctx context.Context) {
	const check = "delegated identity API"
	s := e.Config.Spiffe.Delegated
	if s == nil {
		return
	}
	d, err := spire.NewDelegated(s.Socket)
	if err != nil {
		e.bad(Fail, check, "set spiffe.delegated.socket to the agent's admin_socket_path", err)
		return
	}
	defer func() { _ = d.Close() }()
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	if err := d.Authorized(ctx); err != nil {
		e.bad(Fail, check, "let the agent serve it (admin_socket_path), let egret's user reach it, and name egret's SPIFFE ID in authorized_delegates", err)
		return
	}
	e.ok(check, "the agent at %s lets egret ask for others", s.Socket)
}

// caller tells by what evidence the process that asks, run as it is now, would be known
// at a listener, and why that can be trusted.
func (e *examination) caller(ctx context.Context, l config.Listener, src *identity.Source) {
	check, i, by := "caller at "+l.Name, l.Identify, e.issuer()
	switch {
	case i.Sidecar != nil && i.Sidecar.SameUser:
		e.ok(check, "you are %s as every process of uid %d is, egret's own; trust: %s attested egret, and the kernel says which uid opened a connection", e.self, uid(), by)
	case i.Sidecar != nil:
		e.ok(check, "you are %s as all in this network namespace are; trust: %s attested this container, and the kernel keeps the pod's loopback private to the pod", e.self, by)
	case i.X509SVID != nil:
		e.ok(check, "you are %s by your client certificate; trust: %s attested the process that got the key, and the TLS handshake proves that you have it", e.self, by)
	case i.JWTSVID != nil:
		e.token(ctx, check, i.JWTSVID.Audience, src)
	case i.Process != nil:
		e.process(check, l)
	case i.KubernetesToken != nil:
		e.ok(check, "you are the service account of a token for %q in Proxy-Authorization; trust: kube-apiserver signed it for this audience alone and still knows the pod; who has the token is that pod", i.KubernetesToken.Audience)
	default:
		e.bad(Fail, check, "set one way under identify", "nobody is known here")
	}
}

// issuer is who attests egret itself.
func (e *examination) issuer() string {
	if e.Config.Spiffe.Embedded != nil {
		return "egret's embedded issuer"
	}
	return "the SPIFFE agent"
}

// token asks the agent for what the listener wants to see, and throws it away.
func (e *examination) token(ctx context.Context, check, audience string, src *identity.Source) {
	trust := "trust: " + e.issuer() + " attested the process that fetched it for this proxy; it is a bearer token, so whoever has it is that process"
	if src == nil || e.self.id == "" {
		e.ok(check, "you are %s by a JWT-SVID for %q in Proxy-Authorization; %s", e.self, audience, trust)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.Wait)
	defer cancel()
	_, ends, err := src.FetchJWTSVID(ctx, audience)
	if err != nil {
		e.bad(Warn, check, "see in the agent's log why it issues no JWT-SVID for "+audience, err)
		return
	}
	e.ok(check, "you are %s by a JWT-SVID for %q, which the agent gives you for %s; %s", e.self, audience, left(time.Until(ends)), trust)
}

// process tells the kernel's facts, which an attestor is asked about.
func (e *examination) process(check string, l config.Listener) {
	attestor := map[string]string{"delegated": "the SPIRE agent", "broker": "the SPIRE agent", "embedded": "egret's embedded issuer"}[l.Identify.Process.Attestor]
	if strings.HasPrefix(l.Address, "unix://") {
		e.ok(check, "you are whom %s finds in your very process (uid %d); trust: the kernel hands over a pidfd of who connected, and %[1]s attests that process", attestor, uid())
		return
	}
	cgroup, err := ownCgroup()
	if err != nil {
		e.bad(Fail, check, "run on Linux with cgroup v2, or identify by jwtSVID or x509SVID", err)
		return
	}
	found := fmt.Sprintf("you are known by cgroup %s and uid %d; trust: the kernel says in which cgroup and as which uid a socket was made, and %s attests a process of both", cgroup, uid(), attestor)
	if cgroup == "/" && !l.Identify.Process.RootCgroup {
		e.bad(Warn, check, "run workloads in cgroups of their own (systemd units, containers), or set rootCgroup", found+"; callers in the top cgroup are refused")
		return
	}
	e.ok(check, "%s", found)
}
