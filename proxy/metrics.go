// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/egret-proxy/egret/policy"
)

// metrics are the data path's. No label grows with traffic: destinations, workloads and
// listeners are names from the configuration, the rest are constants.
type metrics struct {
	reg        prometheus.Registerer
	requests   *prometheus.CounterVec   // destination, verdict, layer, reason
	overhead   *prometheus.HistogramVec // destination
	upstream   *prometheus.HistogramVec // destination
	refusals   *prometheus.CounterVec   // listener, layer, reason
	distrust   *prometheus.CounterVec   // workload
	tunnels    *prometheus.CounterVec   // destination
	bytes      *prometheus.CounterVec   // destination, direction
	callerOwn  *prometheus.CounterVec   // workload, kind
	replayed   prometheus.Counter
	captured   *prometheus.CounterVec // listener, began
	mismatches *prometheus.CounterVec // destination
	cut        prometheus.Counter
	lost       prometheus.Counter

	held sync.Map // name of a destination: *heldMetrics
}

// heldMetrics are what every request to one destination counts, found once: to look for a
// series by its labels costs more than to count.
type heldMetrics struct {
	allowed            prometheus.Counter
	overhead, upstream prometheus.Observer
	in, out            prometheus.Counter
}

// overheadBuckets span what egret itself adds: tens of microseconds to a second.
//
//nolint:gochecknoglobals // a constant table
var overheadBuckets = []float64{25e-6, 50e-6, 100e-6, 200e-6, 400e-6, 800e-6, 2e-3, 5e-3, 20e-3, 100e-3, 1}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		return nil, errors.New("proxy: a metrics registerer is required")
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		reg:      reg,
		requests: counter("egret_requests_total", "Requests on intercepted connections, by outcome.", "destination", "verdict", "layer", "reason"),
		refusals: counter("egret_refused_connections_total", "Connections that ended before a request: refused, or a failed handshake.", "listener", "layer", "reason"),
		distrust: counter("egret_client_untrusted_total", "TLS handshakes of clients that did not trust egret's CA.", "workload"),
		captured: counter("egret_captured_total", "Connections that were redirected to egret, by how the client began: tls, http, other, silent, gone.", "listener", "began"),
		mismatches: counter("egret_original_mismatch_total",
			"Captured connections to an address that the server name does not resolve to here: spoofed, or another resolver's answer.", "destination"),
		tunnels: counter("egret_tunnels_total", "Tunnels that have ended.", "destination"),
		bytes:   counter("egret_body_bytes_total", "Bytes of bodies and tunnels; in is from the application.", "destination", "direction"),
		callerOwn: counter("egret_caller_credentials_total",
			"Requests whose caller sent a credential of its own: trust debt.", "workload", "kind"),
		overhead: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "egret_overhead_seconds", Help: "Time that egret itself added: identity, policy and credential.", Buckets: overheadBuckets,
		}, []string{"destination"}),
		upstream: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "egret_upstream_seconds", Help: "Time until the SaaS's response header, connecting included.", Buckets: prometheus.DefBuckets,
		}, []string{"destination"}),
		replayed: prometheus.NewCounter(prometheus.CounterOpts{Name: "egret_replays_total", Help: "Requests repeated with a new credential after the SaaS refused the old one."}),
		cut:      prometheus.NewCounter(prometheus.CounterOpts{Name: "egret_cut_total", Help: "Connections, streams and tunnels that were cut because they were no longer allowed."}),
		lost:     prometheus.NewCounter(prometheus.CounterOpts{Name: "egret_records_lost_total", Help: "Records of refusals for which the audit log had no place."}),
	}
	for _, c := range []prometheus.Collector{
		m.requests, m.refusals, m.distrust, m.tunnels, m.bytes, m.callerOwn, m.overhead, m.upstream, m.replayed, m.cut, m.lost, m.captured, m.mismatches,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// live registers the gauges that are read from the server when scraped.
func (m *metrics) live(s *Server) {
	gauge := func(name, help string, read func() float64) {
		m.reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
	}
	gauge("egret_connections", "Client connections that are open.", func() float64 { return float64(s.table.count.Load()) })
	gauge("egret_streams", "Tunnels and upgraded connections that are open.", func() float64 { return float64(s.table.streams()) })
	gauge("egret_upstream_connections", "Upstream connections that are kept.", func() float64 { n, _ := s.deps.Upstream.Idle(); return float64(n) })
	gauge("egret_upstream_connections_idle", "Upstream connections that are kept and idle.", func() float64 { _, n := s.deps.Upstream.Idle(); return float64(n) })
}

func destinationName(c *clientConn) string {
	if c.dest == nil {
		return "unlisted"
	}
	return c.dest.Name
}

// at returns what is held of a destination.
func (m *metrics) at(destination string) *heldMetrics {
	if h, ok := m.held.Load(destination); ok {
		return h.(*heldMetrics) //nolint:forcetypeassert // nothing else is in it
	}
	h := &heldMetrics{
		allowed:  m.requests.WithLabelValues(destination, policy.Allow.String(), "", ""),
		overhead: m.overhead.WithLabelValues(destination),
		upstream: m.upstream.WithLabelValues(destination),
		in:       m.bytes.WithLabelValues(destination, "in"),
		out:      m.bytes.WithLabelValues(destination, "out"),
	}
	m.held.Store(destination, h) // two at once hold the same series
	return h
}

// served counts one request.
func (m *metrics) served(x *exchange) {
	d := destinationName(x.c)
	h := m.at(d)
	if rec := &x.rec; rec.Reason == "" && rec.Layer == "" && rec.Verdict == policy.Allow.String() {
		h.allowed.Inc()
	} else {
		m.requests.WithLabelValues(d, rec.Verdict, rec.Layer, rec.Reason).Inc()
	}
	h.overhead.Observe((x.rec.TIdentity + x.rec.TPolicy + x.rec.TCredential).Seconds())
	if x.rec.TUpstream > 0 {
		h.upstream.Observe(x.rec.TUpstream.Seconds())
	}
	h.in.Add(float64(x.rec.BytesIn))
	h.out.Add(float64(x.rec.BytesOut))
	if k := x.rec.CallerCredential; k != "" && k != "none" && x.c.workInfo != nil {
		m.callerOwn.WithLabelValues(x.c.workInfo.Name, k).Inc()
	}
}

func (m *metrics) count(destination string, in, out int64) {
	m.bytes.WithLabelValues(destination, "in").Add(float64(in))
	m.bytes.WithLabelValues(destination, "out").Add(float64(out))
}

// refused counts a connection that never became a request.
func (m *metrics) refused(c *clientConn, reason policy.Reason) {
	m.refusals.WithLabelValues(c.entrance.Name, reason.Layer(), reason.Code()).Inc()
}

func (m *metrics) untrusted(c *clientConn) {
	name := "unknown"
	if c.workInfo != nil {
		name = c.workInfo.Name
	}
	m.distrust.WithLabelValues(name).Inc()
}

func (m *metrics) tunnelled(c *clientConn, t *pipe) {
	m.tunnels.WithLabelValues(destinationName(c)).Inc()
	m.count(destinationName(c), t.in.Load(), t.out.Load())
}
