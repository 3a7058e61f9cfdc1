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
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
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
	"github.com/egret-proxy/egret/internal/secret"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

// Options are what a Node is made of.
type Options struct {
	Config  *config.Node
	File    string // egret.yaml, to notice that it has changed; may be empty
	Env     config.Env
	Version ops.Version
	Logger  *slog.Logger
	Stdout  io.Writer // for audit to "-"
	// Listeners replaces the address of listeners by name, for callers that must know
	// the port before anything is served. The Node closes them.
	Listeners map[string]net.Listener
}

// Node is one egret. Make it with New, then Run it once.
type Node struct {
	opt    Options
	cfg    *config.Node
	log    *slog.Logger
	reg    *prometheus.Registry
	policy atomic.Pointer[policy.Policy]
	start  time.Time

	source    *identity.Source
	embedded  *embeddedAPI // nil where there is a Workload API
	issuer    issuer
	authority *certs.Authority
	cache     *credential.Cache
	dialer    *proxy.Dialer
	pool      *proxy.Pool
	journal   *audit.Journal
	file      *audit.File // nil where records go to standard output
	server    *proxy.Server
	entrances []*entrance
	admin     *ops.Admin
	reload    *reloader

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

// New builds everything and serves nothing. On an error nothing is left behind. The
// error is config.Faults where the policy is at fault.
func New(opt Options) (_ *Node, err error) {
	n := &Node{opt: opt, cfg: opt.Config, log: opt.Logger, reg: prometheus.NewRegistry(), start: time.Now()}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	n.reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(opt.Version))
	for _, step := range []func() error{
		n.buildAudit, n.buildIssuer, n.buildIdentity, n.buildUpstream, n.buildCredentials, n.buildPolicy, n.buildAuthority, n.buildServer, n.buildEntrances, n.buildAdmin,
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

// flushTime bounds how long the last records are waited for.
const flushTime = 10 * time.Second

func (n *Node) buildAudit() error {
	c := n.cfg.Audit
	var sink audit.Sink
	if c.File == "" || c.File == "-" {
		sink = audit.NewStream(n.opt.Stdout)
	} else {
		f, err := audit.OpenFile(audit.FileOptions{Path: c.File, MaxSize: int64(c.MaxSize), MaxFiles: c.MaxFiles, Logger: n.log})
		if err != nil {
			return err
		}
		n.file, sink = f, f
	}
	o := audit.Options{Writer: sink, Queue: c.Queue, Registerer: n.reg, Logger: n.log, Node: n.cfg.Node}
	if c.OnFull == "drop" {
		o.OnFull = audit.Drop
	}
	j, err := audit.NewLog(o)
	if err != nil {
		return err
	}
	n.journal = j
	n.onClose(func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		if err := j.Close(ctx); err != nil {
			n.log.Error("the last records were not written", "error", err)
		}
	})
	return nil
}

// buildIdentity starts following the Workload API, or serves one where there is none.
func (n *Node) buildIdentity() error {
	c := n.cfg.Spiffe
	tds, err := trustDomains(c.TrustDomains)
	if err != nil {
		return err
	}
	address := c.WorkloadAPI
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	n.onClose(func() { cancel(); running.Wait() })
	if c.Embedded != nil {
		if n.embedded, err = serveEmbedded(ctx, &running, *c.Embedded, n.log); err != nil {
			return err
		}
		n.onClose(n.embedded.remove)
		address = n.embedded.address
	}
	n.source, err = identity.NewSource(identity.SourceOptions{Address: address, TrustDomains: tds, Logger: n.log, Registerer: n.reg})
	if err != nil {
		return err
	}
	running.Go(func() { _ = n.source.Run(ctx) })
	return nil
}

func trustDomains(names []string) ([]spiffeid.TrustDomain, error) {
	out := make([]spiffeid.TrustDomain, 0, len(names))
	for _, name := range names {
		td, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, fmt.Errorf("spiffe.trustDomains: %q: %w", name, err)
		}
		out = append(out, td)
	}
	return out, nil
}

// buildUpstream makes the way out: resolver, address rules, corporate proxy, pool.
func (n *Node) buildUpstream() error {
	c := n.cfg.Upstream
	deny, err := prefixes("egress.denyCIDRs", n.cfg.Egress.DenyCIDRs)
	if err != nil {
		return err
	}
	nat64, err := prefixes("upstream.nat64", c.NAT64)
	if err != nil {
		return err
	}
	roots, _, err := certs.LoadUpstreamRoots(c.Roots, n.ours()...)
	if err != nil {
		return fmt.Errorf("upstream.roots: %w", err)
	}
	n.dialer = &proxy.Dialer{
		Resolver: proxy.NewResolver(c.Resolvers), Rules: proxy.AddressRules{Deny: deny, NAT64: nat64}, Own: n.own,
	}
	if n.dialer.Proxy, err = upstreamProxy(c.Proxy); err != nil {
		return err
	}
	l := n.cfg.Limits
	n.pool, err = proxy.NewPool(proxy.PoolOptions{
		Dialer: n.dialer, Roots: roots, Dial: l.Dial, ResponseHeader: l.ResponseHeader, IdlePerKey: l.IdleUpstreamPerKey, Idle: l.IdleUpstream,
	})
	if err != nil {
		return err
	}
	n.onClose(n.pool.Close)
	return nil
}

func prefixes(key string, list []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// upstreamProxy reads the corporate proxy's settings; its password is read anew for
// every connection, so that a rotated file is followed.
func upstreamProxy(c *config.UpstreamProxy) (*proxy.UpstreamProxy, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // no corporate proxy is the usual case
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("upstream.proxy.url: %w", err)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("upstream.proxy.url: %w", err)
	}
	p := &proxy.UpstreamProxy{Scheme: u.Scheme, Host: u.Hostname(), Port: uint16(port), Username: c.Username}
	if c.Roots != "" || u.Scheme == "https" {
		if p.Roots, _, err = certs.LoadUpstreamRoots(c.Roots); err != nil {
			return nil, fmt.Errorf("upstream.proxy.roots: %w", err)
		}
	}
	if c.Password != "" {
		p.Password = func() (secret.Secret, error) {
			b, err := os.ReadFile(c.Password)
			return secret.New(strings.TrimRight(string(b), "\r\n")), err
		}
	}
	return p, nil
}

// own reports whether an address is one of egret's own listeners: a request that came
// back to us would go round for ever.
func (n *Node) own(ap netip.AddrPort) bool {
	for _, e := range n.entrances {
		if e.is(ap) {
			return true
		}
	}
	return false
}

func (n *Node) buildCredentials() error {
	self := identity.NewSidecar(n.source, identity.SidecarOptions{})
	cache, err := credential.NewCache(credential.CacheOptions{
		Size: n.cfg.Limits.Credentials, Wait: n.cfg.Limits.CredentialWait, Registerer: n.reg, Logger: n.log,
		Self: func() credential.Subject {
			c, err := self.Resolve(context.Background(), identity.Peer{})
			if err != nil {
				return nil
			}
			return c
		},
	})
	if err != nil {
		return err
	}
	n.cache = cache
	n.onClose(cache.Close)
	return nil
}

// buildIssuer loads the intermediates. An ephemeral CA is made later, for what policy lists.
func (n *Node) buildIssuer() error {
	files := n.cfg.Certs.Issuer.File
	if len(files) == 0 {
		return nil
	}
	fi, err := fileIssuer(files)
	if err != nil {
		return err
	}
	n.issuer = fi
	return nil
}

// ours are the certificates that no upstream may be trusted by (MUST T12). An ephemeral
// CA is recognised by its marker.
func (n *Node) ours() []*x509.Certificate {
	if n.issuer == nil {
		return nil
	}
	return n.issuer.Authorities()
}

// buildPolicy loads the governed objects for the first time. Nothing is served without.
func (n *Node) buildPolicy() error {
	r, err := newReloader(n)
	if err != nil {
		return err
	}
	n.reload = r
	return r.first()
}

func fileIssuer(files []config.IssuerFile) (*certs.FileIssuer, error) {
	list := make([]certs.IssuerFile, 0, len(files))
	for _, f := range files {
		list = append(list, certs.IssuerFile{Chain: f.Chain, Key: f.Key})
	}
	fi, err := certs.NewFileIssuer(list...)
	if err != nil {
		return nil, fmt.Errorf("certs.issuer.file: %w", err)
	}
	return fi, nil
}

func (n *Node) buildAuthority() error {
	a, err := certs.NewAuthority(certs.AuthorityOptions{
		Issuer: n.issuer, LeafTTL: n.cfg.Certs.LeafTTL, CacheSize: n.cfg.Limits.Leaves, Registerer: n.reg,
		Listed: func(host string) bool { return n.policy.Load().Lists(host) },
	})
	if err != nil {
		return err
	}
	n.authority = a
	n.onClose(a.Close)
	return nil
}

func (n *Node) buildServer() error {
	l := n.cfg.Limits
	s, err := proxy.New(proxy.Deps{
		Policy: n.policy.Load, Credentials: n.cache, Leaves: n.authority, Upstream: n.pool, Audit: n.journal, Logger: n.log, Registerer: n.reg,
	}, proxy.Limits{
		HeaderBytes: int(l.HeaderBytes), Connections: l.Connections, ConnectionsPerWorkload: l.ConnectionsPerWorkload,
		Handshake: l.Handshake, Idle: l.Idle, TunnelIdle: l.TunnelIdle, MaxStream: l.MaxStream, CredentialWait: l.CredentialWait,
	})
	if err != nil {
		return err
	}
	n.server = s
	n.onClose(s.Close)
	return nil
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

// Identity waits until egret holds its own SVID and returns its ID.
func (n *Node) Identity(ctx context.Context) (spiffeid.ID, error) {
	select {
	case <-n.source.Ready():
	case <-ctx.Done():
		return spiffeid.ID{}, errors.New("the SPIFFE Workload API has not answered: check that the agent runs and that egret has an entry")
	}
	svid, err := n.source.SVID()
	if err != nil {
		return spiffeid.ID{}, err
	}
	return svid.ID, nil
}

// Credentials lists what the cache holds, never the values.
func (n *Node) Credentials() []credential.Entry { return n.cache.Snapshot() }
