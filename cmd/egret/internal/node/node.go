// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package node puts one egret together from its settings, runs it and takes it down in
// order. It holds no logic of its own: what is decided, cached, signed or recorded is in
// the packages that it wires.
package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/credential"
	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/internal/sockopt"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

// Registry takes metrics in and gives them out.
type Registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// Options are what a Node is made of.
type Options struct {
	Config  *config.Node
	File    string // egret.yaml, to notice that it has changed; may be empty
	Env     config.Env
	Version ops.Version
	Logger  *slog.Logger
	Stdout  io.Writer // for audit to "-"
	// Registry is where metrics are registered; nil: one of the node's own.
	Registry Registry
	// Service: this process is the egret service. systemd is notified, its sockets and
	// its watchdog are used, and SIGHUP reloads policy and reopens the audit file.
	Service bool
	// Guest: the settings are those of an egret that may run beside this one. Its file of
	// revocations is read at the start and never written.
	Guest bool
}

// Node is one egret. Make it with New, then Run it once.
type Node struct {
	opt    Options
	cfg    *config.Node
	log    *slog.Logger
	reg    Registry
	policy atomic.Pointer[policy.Policy]
	start  time.Time

	source    *identity.Source
	embedded  *embeddedAPI  // nil where there is a Workload API
	diag      *sockopt.Diag // nil where no listener asks the kernel about callers
	issuer    issuer
	authority *certs.Authority
	cache     *credential.Cache
	roots     *x509.CertPool // of upstreams and token endpoints that name none
	dialer    *proxy.Dialer
	pool      *proxy.Pool
	journal   *audit.Journal
	file      *audit.File // nil where records go to standard output
	server    *proxy.Server
	callers   []*entrance // not bound yet
	entrances []*entrance
	admin     *ops.Admin
	reload    *reloader
	revoked   *revocations
	enforcing sync.Mutex // orders what is stored in policy

	metricsAt net.Listener // nil where not configured
	adminAt   net.Listener // nil where not configured
	hangup    chan os.Signal
	fatal     chan error // why egret cannot go on

	telling  sync.Mutex // keeps what systemd is told in order
	told     bool       // READY=1, under telling
	draining atomic.Bool
	closers  []func() // in reverse order of their making
}

// issuer is what the CA must offer besides signing.
type issuer interface {
	certs.Issuer
	BundlePEM() []byte
	Expires() time.Time
	Authorities() []*x509.Certificate
}

// New builds everything and binds every address, so that one in use is told at once, but
// serves nothing. On an error nothing is left behind. The error is config.Faults where
// the policy is at fault.
func New(opt Options) (_ *Node, err error) {
	n := &Node{opt: opt, cfg: opt.Config, log: opt.Logger, reg: opt.Registry, start: time.Now(), fatal: make(chan error, 4)}
	if n.reg == nil {
		n.reg = prometheus.NewRegistry()
	}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.catchHangup()
	n.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(opt.Version))
	for _, step := range []func() error{
		n.buildAudit, n.buildIssuer, n.buildIdentity, n.buildUpstream, n.buildCredentials, n.buildRevocations, n.buildPolicy,
		n.buildAuthority, n.buildCallers, n.buildServer, n.buildEntrances, n.buildMetrics, n.buildAdmin, n.publishRoots,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return n, nil
}

func buildInfo(v ops.Version) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "egret_build_info", Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{"version": v.Version, "commit": v.Commit, "go": v.Go},
	}, func() float64 { return 1 })
}

// onClose registers what takes back a step of the construction.
func (n *Node) onClose(f func()) { n.closers = append(n.closers, f) }

func (n *Node) close() {
	for i := len(n.closers) - 1; i >= 0; i-- {
		n.closers[i]()
	}
	n.closers = nil
}

// CABundle returns the certificates that clients of this egret must trust, as PEM.
func (n *Node) CABundle() []byte { return n.issuer.BundlePEM() }

// Address returns where a listener is reached, or nil.
func (n *Node) Address(name string) net.Addr {
	for _, e := range n.entrances {
		if e.cfg.Name == name {
			return e.listener.Addr()
		}
	}
	return nil
}

// MetricsAddress returns where metrics and health are reached, or nil.
func (n *Node) MetricsAddress() net.Addr {
	if n.metricsAt == nil {
		return nil
	}
	return n.metricsAt.Addr()
}

// identityPoll is how often is looked for an identity while there is none.
const identityPoll = 10 * time.Millisecond

// Identity waits until the Workload API has answered and egret holds its own SVID, and
// returns its ID. The error says what the API has said so far.
func (n *Node) Identity(ctx context.Context) (spiffeid.ID, error) {
	t := time.NewTicker(identityPoll)
	defer t.Stop()
	var err error
	for {
		svid, unusable := n.source.SVID()
		switch {
		case unusable != nil:
			err = unusable
		case n.answered():
			return svid.ID, nil
		default:
			err = errNoBundles
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return spiffeid.ID{}, fmt.Errorf("egret has no identity: %w (check spiffe.workloadAPI, that the agent runs, and egret's entry)", err)
		}
	}
}

var errNoBundles = errors.New("the workload API has not told the JWT bundles yet")

func (n *Node) answered() bool {
	select {
	case <-n.source.Ready():
		return true
	default:
		return false
	}
}

// Credentials lists what the cache holds, never the values.
func (n *Node) Credentials() []credential.Entry { return n.cache.Snapshot() }
