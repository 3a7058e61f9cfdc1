// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/identity"
)

func sourceOptions(c *config.Node, tds []spiffeid.TrustDomain) identity.SourceOptions {
	o := identity.SourceOptions{Address: c.Spiffe.WorkloadAPI, TrustDomains: tds}
	o.ID, _ = spiffeid.FromString(c.Spiffe.ID) // empty, or checked by config
	return o
}

// caller tells by what evidence the process that asks, run as it is now, would be known
// at a listener, and why that can be trusted; or the process that Options name, which
// the kernel can be asked about and nobody else.
func (e *examination) caller(ctx context.Context, l config.Listener, src *identity.Source) {
	check, i, by := "caller at "+l.Name, l.Identify, e.issuer()
	switch {
	case e.PID != 0 && i.Process == nil:
		e.ok(check, "who process %d is there does not depend on what the kernel says about it: run egret doctor in its place", e.PID)
	case i.Sidecar != nil && i.Sidecar.SameUser:
		e.ok(check, "you are %s as every process of uid %d is, egret's own; trust: %s attested egret, and the kernel says which uid opened a connection", e.self, uid(), by)
	case i.Sidecar != nil:
		e.ok(check, "you are %s as all in this network namespace are; trust: %s attested this container, and the kernel keeps the pod's loopback private to the pod", e.self, by)
	case i.X509SVID != nil:
		e.ok(check, "you are %s by your client certificate; trust: %s attested the process that got the key, and the TLS handshake proves that you have it", e.self, by)
	case i.JWTSVID != nil:
		e.token(ctx, check, i.JWTSVID.Audience, src)
	case i.Process != nil:
		e.process(ctx, check, l)
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
