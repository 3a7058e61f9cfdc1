// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ConnectAddress is Connect for a captured connection that is not TLS and so names no
// host: all that is known is the address that the caller wanted, and nobody else's word
// stands behind it. A destination that lists the address itself decides; an address that
// none lists passes where unlisted hosts do. Unlike a CONNECT to an address (MUST T6),
// which Connect refuses, it can be no way round a listed host: nothing there speaks
// anything but TLS.
func (p *Policy) ConnectAddress(id spiffeid.ID, evidence string, t Target, at time.Time) Admission {
	a := p.Connect(id, evidence, t, at)
	if a.Reason != ReasonUnlistedHost || !p.unlisted || !t.IsIP() || t.Port == 0 || p.listing(t.Host) != nil {
		return a
	}
	a.pass(nil, nil, a.Workload.refuses(evidence, at))
	return a
}

// Intercepts reports whether a destination that is intercepted lists the port.
func (p *Policy) Intercepts(port uint16) bool {
	return p != nil && slices.ContainsFunc(p.destinations, func(d *Destination) bool {
		return d.Intercept && slices.Contains(d.Ports, port)
	})
}
