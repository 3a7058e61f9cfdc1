// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

// reloader loads policy and puts it in force: parse all, check all, swap. The last good
// one stays on any fault (MUST G3).
type reloader struct {
	n     *Node
	mu    sync.Mutex // one load at a time
	state atomic.Pointer[loaded]

	outcomes *prometheus.CounterVec
	success  prometheus.Gauge
	stamp    prometheus.Gauge
	info     *prometheus.GaugeVec
}

// loaded is what a load has left. Immutable, but for superseded.
type loaded struct {
	bundle     *config.Bundle  // in force; of an earlier load where this one failed
	looked     config.Snapshot // what the load has looked at, from before it was read
	failed     error           // why what is in force is older than its files; nil: it is not
	at         time.Time
	superseded chan struct{} // closed when the next load has ended
}

func newReloader(n *Node) (*reloader, error) {
	r := &reloader{
		n:        n,
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "egret_policy_reloads_total", Help: "Loads of policy, by outcome."}, []string{"outcome"}),
		success:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "egret_policy_reload_success", Help: "1 where the last load succeeded; 0: what is in force is older than its files."}),
		stamp:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "egret_policy_loaded_timestamp_seconds", Help: "When the policy in force was loaded."}),
		info:     prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "egret_policy_info", Help: "Always 1; the digest of the policy in force."}, []string{"digest"}),
	}
	for _, c := range []prometheus.Collector{r.outcomes, r.success, r.stamp, r.info} {
		if err := n.reg.Register(c); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// now is what the last load has left.
func (r *reloader) now() *loaded { return r.state.Load() }

// health says why what is in force is not the newest.
func (r *reloader) health() error {
	s := r.now()
	if s.failed == nil {
		return nil
	}
	return fmt.Errorf("what is in force is older than its files, the load at %s failed: %s", s.at.UTC().Format(time.RFC3339), brief(s.failed))
}

// brief is an error in one line.
func brief(err error) string {
	var faults config.Faults
	if errors.As(err, &faults) && len(faults) > 1 {
		return fmt.Sprintf("%s (and %d more: egret check lists them)", faults[0].Error(), len(faults)-1)
	}
	return err.Error()
}

// first loads policy at start. An ephemeral CA is made for what it lists.
func (r *reloader) first() error {
	looked := r.ownFiles()
	b, err := r.load(&looked)
	if err != nil {
		return err
	}
	if r.n.issuer == nil {
		e, err := certs.NewEphemeralIssuer(certs.EphemeralOptions{Hosts: interceptedHosts(b)})
		if err != nil {
			return fmt.Errorf("certs.issuer.ephemeral: %w", err)
		}
		r.n.issuer = e
	}
	retire, err := r.install(b)
	if err != nil {
		return err
	}
	retire() // nothing was there before
	r.ended(&loaded{bundle: b, looked: looked})
	return nil
}

func interceptedHosts(b *config.Bundle) []string {
	var out []string
	for _, d := range b.Compiled.Set.Destinations {
		if d.Intercept {
			out = append(out, d.Hosts...)
		}
	}
	return out
}

// Reload reads policy, intermediates and the listeners' certificates again and puts them
// in force, or keeps what is in force and says why. It returns how many connections and
// streams the new policy has cut.
func (n *Node) Reload() (cut int, err error) {
	defer n.reloading()()
	r := n.reload
	r.mu.Lock()
	defer r.mu.Unlock()
	begin, next := time.Now(), &loaded{bundle: r.now().bundle, looked: r.ownFiles()}
	// A broken certificate does not hold up a policy: it may be a revocation.
	err = r.refreshFiles()
	if perr := r.renew(next); perr != nil {
		err = errors.Join(perr, err)
	} else {
		cut = n.server.Recheck()
		n.log.Info("policy is in force", "digest", next.bundle.Digest, "took", time.Since(begin).Round(time.Microsecond).String(), "cut", cut)
	}
	if err != nil {
		n.log.Error("reload failed, what was in force stays", "error", brief(err), "policy", next.bundle.Digest)
	}
	next.failed = err
	r.ended(next)
	r.settingsChanged()
	return cut, err
}

// ended makes the outcome of a load known.
func (r *reloader) ended(s *loaded) {
	s.at, s.superseded = time.Now(), make(chan struct{})
	if old := r.state.Swap(s); old != nil {
		close(old.superseded)
	}
	outcome, success := "ok", 1.0
	if s.failed != nil {
		outcome, success = "failed", 0
	}
	r.outcomes.WithLabelValues(outcome).Inc()
	r.success.Set(success)
}

// retireAfter is how long the credentials of the policy before stay usable: longer than
// any request takes from its decision to its credential.
const retireAfter = 30 * time.Second

// renew loads policy into next and puts it in force.
func (r *reloader) renew(next *loaded) error {
	b, err := r.load(&next.looked)
	if err != nil {
		return err
	}
	retire, err := r.install(b)
	if err != nil {
		return err
	}
	time.AfterFunc(retireAfter, retire)
	next.bundle = b
	return nil
}

// load reads and checks everything, and changes nothing. What it has looked at is added
// to looked.
func (r *reloader) load(looked *config.Snapshot) (*config.Bundle, error) {
	opt := config.LoadOptions{
		Env: r.n.opt.Env, Authorities: r.n.ours(),
		Looked: func(s config.Snapshot) { *looked = looked.With(s) },
	}
	if r.n.issuer != nil {
		opt.Permits = r.n.issuer.Permits
	}
	b, faults := config.Load(r.n.cfg, opt)
	if len(faults) > 0 {
		return nil, faults
	}
	if _, ok := r.n.issuer.(*certs.EphemeralIssuer); ok {
		if err := certs.CheckHosts(r.n.issuer, interceptedHosts(b)); err != nil {
			return nil, fmt.Errorf("an ephemeral CA is made for the hosts that were listed at start, restart egret: %w", err)
		}
	}
	return b, nil
}

// install puts a loaded bundle in force: credentials first, so that no decision names
// one that is not there yet. retire takes away those that it replaces.
func (r *reloader) install(b *config.Bundle) (retire func(), err error) {
	specs, faults := config.Build(b, config.BuildOptions{Dial: r.dial, Roots: r.n.roots, Logger: r.n.log})
	if len(faults) > 0 {
		return nil, faults
	}
	retire = r.n.cache.Install(specs)
	r.n.publish(policy.New(b.Compiled.Set))
	r.stamp.SetToCurrentTime()
	r.info.Reset()
	r.info.WithLabelValues(b.Digest).Set(1)
	return retire, nil
}

// dial reaches token endpoints by the same checked dialer as everything else (MUST T10).
func (r *reloader) dial(hostPort string, allow []netip.Prefix) config.DialFunc {
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		host, p, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return nil, err
		}
		return r.n.dialer.DialContext(ctx, proxy.Route{Host: host, Port: uint16(port), Dial: hostPort, Allow: allow})
	}
}
