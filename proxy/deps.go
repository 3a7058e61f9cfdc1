// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/sockopt"
	"github.com/egret-proxy/egret/policy"
)

// Deps is everything that the stem asks. All members are required and must be safe
// for concurrent use.
type Deps struct {
	Policy      func() *policy.Policy // the policy in force now; asked for every request
	Credentials credential.Source
	Leaves      Leaves
	Upstream    *Pool
	Audit       audit.Log
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// Leaves mints the certificates that intercepted clients see. *certs.Authority
// implements it.
type Leaves interface {
	Leaf(ctx context.Context, host string) (*tls.Certificate, error)
}

// Limits bounds everything a client can make egret hold. Zero members take the
// default of DefaultLimits.
type Limits struct {
	HeaderBytes            int
	Connections            int
	ConnectionsPerWorkload int
	Handshake              time.Duration
	Idle                   time.Duration
	TunnelIdle             time.Duration
	MaxStream              time.Duration
	CredentialWait         time.Duration
}

// DefaultLimits are the limits in force where nothing is set.
func DefaultLimits() Limits {
	return Limits{
		HeaderBytes: 64 << 10, Connections: 9000, ConnectionsPerWorkload: 1000,
		Handshake: 10 * time.Second, Idle: 5 * time.Minute, TunnelIdle: time.Hour,
		MaxStream: 24 * time.Hour, CredentialWait: 10 * time.Second,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	l.HeaderBytes = orInt(l.HeaderBytes, d.HeaderBytes)
	l.Connections = orInt(l.Connections, d.Connections)
	l.ConnectionsPerWorkload = orInt(l.ConnectionsPerWorkload, d.ConnectionsPerWorkload)
	l.Handshake = orDur(l.Handshake, d.Handshake)
	l.Idle = orDur(l.Idle, d.Idle)
	l.TunnelIdle = orDur(l.TunnelIdle, d.TunnelIdle)
	l.MaxStream = orDur(l.MaxStream, d.MaxStream)
	l.CredentialWait = orDur(l.CredentialWait, d.CredentialWait)
	return l
}

func orInt(v, d int) int {
	if v <= 0 {
		return d
	}
	return v
}

func orDur(v, d time.Duration) time.Duration {
	if v <= 0 {
		return d
	}
	return v
}

// Entrance is one listener and the one way in which it knows its callers.
type Entrance struct {
	Name      string
	Listener  net.Listener
	TLS       *tls.Config // nil: plain; otherwise the listener's own certificate, HTTP/1.1 only
	Identity  identity.Resolver
	Challenge bool // a JWT-SVID in Proxy-Authorization can be asked for with 407
	Process   bool // collect kernel facts about the peer (identity.Peer.Proc)
	// Diag asks for those facts, in the listener's network namespace. Where Process is set
	// and Diag is not, nobody is known.
	Diag *sockopt.Diag
	// Original makes the entrance transparent: its connections were redirected here, and
	// this tells where the client of one wanted to go (sockopt.OriginalDst). They bring no
	// CONNECT and no header, so TLS and Challenge must be off.
	Original func(net.Conn) (netip.AddrPort, error)
	// Pod names, for records, the pod whose network namespace the listener is in, as the one
	// who made the namespace says. Empty: not known, or not a pod's.
	Pod string
	// PodUID is that pod's, where whoever made the namespace has said it. With Process, a
	// caller whose cgroup is not of this pod is nobody.
	PodUID string
}
