// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-proxy/egret/certs"
	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/proxy"
)

// reloader loads policy and puts it in force: parse all, check all, swap. The last good
// one stays on any fault (MUST G3).
type reloader struct {
	n *Node

	mu      sync.Mutex // one reload at a time
	bundle  *config.Bundle
	retire  func()
	last    error // of the last attempt
	since   time.Time
	changed chan struct{} // a reload by other means than watching has happened

	outcomes *prometheus.CounterVec
	success  prometheus.Gauge
	stamp    prometheus.Gauge
	info     *prometheus.GaugeVec
}

func newReloader(n *Node) (*reloader, error) {
	r := &reloader{
		n: n, changed: make(chan struct{}, 1),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "egret_policy_reloads_total", Help: "Loads of policy, by outcome."}, []string{"outcome"}),
		success:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "egret_policy_reload_success", Help: "1 where the last load succeeded; 0: an older policy is in force."}),
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

// retireAfter is how long the credentials of the policy before stay usable: longer than
// any request takes from its decision to its credential.
const retireAfter = 30 * time.Second

// first loads policy at start. An ephemeral CA is made for what it lists.
func (r *reloader) first() error {
	b, err := r.load()
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
	return r.install(b)
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

// Reload loads policy again and puts it in force, or keeps the one in force and says
// why. It returns how many connections and streams the new policy has cut.
func (n *Node) Reload() (cut int, err error) {
	_, _ = daemon.SdNotify(false, daemon.SdNotifyReloading+"\n"+monotonic())
	defer func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }()
	r := n.reload
	cut, err = r.again()
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return cut, err
}

func (r *reloader) again() (cut int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	begin := time.Now()
	if err := r.refreshFiles(); err != nil {
		return 0, r.failed(err)
	}
	b, err := r.load()
	if err == nil {
		err = r.install(b)
	}
	if err != nil {
		return 0, r.failed(err)
	}
	cut = r.n.server.Recheck()
	r.n.log.Info("policy is in force", "digest", b.Digest, "took", time.Since(begin).Round(time.Millisecond), "cut", cut)
	r.settingsChanged()
	return cut, nil
}

// refreshFiles reads again what is not policy but lives in files: intermediates and the
// listeners' certificates.
func (r *reloader) refreshFiles() error {
	if fi, ok := r.n.issuer.(*certs.FileIssuer); ok {
		if err := fi.Reload(); err != nil {
			return fmt.Errorf("certs.issuer.file: %w", err)
		}
		r.n.authority.Purge()
	}
	for _, e := range r.n.entrances {
		if err := e.loadCert(); err != nil {
			return err
		}
	}
	return nil
}

func (r *reloader) failed(err error) error {
	r.last, r.since = err, time.Now()
	r.outcomes.WithLabelValues("failed").Inc()
	r.success.Set(0)
	var faults config.Faults
	if errors.As(err, &faults) {
		r.n.log.Error("policy has faults, the one before stays in force", "faults", len(faults), "first", faults[0].Error(), "hint", "egret check lists them all")
	} else {
		r.n.log.Error("reload failed, what was in force stays", "error", err)
	}
	return err
}

// load reads and checks everything, and changes nothing.
func (r *reloader) load() (*config.Bundle, error) {
	opt := config.LoadOptions{Env: r.n.opt.Env}
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
// one that is not there yet.
func (r *reloader) install(b *config.Bundle) error {
	specs, faults := config.Build(b, config.BuildOptions{Dial: r.dial, Logger: r.n.log})
	if len(faults) > 0 {
		return faults
	}
	retire := r.n.cache.Install(specs)
	r.n.policy.Store(policy.New(b.Compiled.Set))
	if r.retire != nil {
		time.AfterFunc(retireAfter, retire)
	} else {
		retire()
	}
	r.bundle, r.retire, r.last = b, retire, nil
	r.outcomes.WithLabelValues("ok").Inc()
	r.success.Set(1)
	r.stamp.SetToCurrentTime()
	r.info.Reset()
	r.info.WithLabelValues(b.Digest).Set(1)
	return nil
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

// settingsChanged tells that egret.yaml is not what runs: its settings need a restart.
func (r *reloader) settingsChanged() {
	if r.n.opt.File == "" {
		return
	}
	now, faults := config.LoadNode(r.n.opt.File, r.n.opt.Env)
	switch {
	case len(faults) > 0:
		r.n.log.Warn("egret.yaml has faults; what runs is what was read at start", "first", faults[0].Error())
	case !reflect.DeepEqual(now, r.n.cfg):
		r.n.log.Warn("egret.yaml has changed; restart egret to put its settings in force (policy is reloaded without)")
	}
}

// health says why the policy in force is not the newest one.
func (r *reloader) health() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		return nil
	}
	return fmt.Errorf("an older policy is in force since the load at %s failed: %w", r.since.UTC().Format(time.RFC3339), r.last)
}

func (r *reloader) current() *config.Bundle {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bundle
}

// watch reloads when a file changes, until ctx ends.
func (r *reloader) watch(ctx context.Context) {
	for ctx.Err() == nil {
		wctx, cancel := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() {
			done <- config.Watch(wctx, r.current().Snapshot, func() { _, _ = r.n.Reload() })
		}()
		select {
		case <-r.changed: // follow the files of the new bundle
		case <-ctx.Done():
		case err := <-done:
			r.n.log.Error("files are not watched any more; reload with SIGHUP", "error", err)
			<-ctx.Done()
			done <- nil
		}
		cancel()
		<-done
	}
}
