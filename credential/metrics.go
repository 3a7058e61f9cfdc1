// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package credential

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has one label that comes from configuration (the Credential's name) and none
// that grows with traffic.
type metrics struct {
	fetches *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	stale   prometheus.Counter
	flights prometheus.Gauge
	ended   *prometheus.CounterVec

	reg  prometheus.Registerer
	mine []prometheus.Collector
}

func newMetrics(reg prometheus.Registerer, c *Cache) (*metrics, error) {
	m := &metrics{
		reg: reg,
		fetches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "egret_credential_fetches_total",
			Help: "Fetches from issuers, by credential, outcome (ok, error) and reason.",
		}, []string{"provider", "outcome", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "egret_credential_fetch_seconds",
			Help:    "Time that an issuer took to answer.",
			Buckets: []float64{.005, .025, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"provider"}),
		stale: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "egret_credential_stale_served_total",
			Help: "Values served near their end because a refresh did not come in time. Never after their end.",
		}),
		flights: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "egret_credential_flights",
			Help: "Fetches in progress.",
		}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "egret_credential_ended_total",
			Help: "Values that were given up before their end and so ended at their issuer, by credential and outcome (ok, error, overflow).",
		}, []string{"provider", "outcome"}),
	}
	return m, m.register(&expiryCollector{cache: c, desc: prometheus.NewDesc("egret_credential_expiry_seconds",
		"Seconds until the first cached value of the credential ends.", []string{"provider"}, nil)})
}

func (m *metrics) register(expiry prometheus.Collector) error {
	if m.reg == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.fetches, m.seconds, m.stale, m.flights, m.ended, expiry} {
		if err := m.reg.Register(c); err != nil {
			m.unregister()
			return errors.Join(errors.New("metrics not registered"), err)
		}
		m.mine = append(m.mine, c)
	}
	return nil
}

func (m *metrics) unregister() {
	for _, c := range m.mine {
		m.reg.Unregister(c)
	}
	m.mine = nil
}

func (m *metrics) fetched(provider string, err *Error, took time.Duration) {
	outcome, reason := "ok", ""
	if err != nil {
		outcome, reason = "error", err.Kind.String()
	}
	m.fetches.WithLabelValues(provider, outcome, reason).Inc()
	m.seconds.WithLabelValues(provider).Observe(took.Seconds())
}

// expiryCollector computes the gauge when it is scraped.
type expiryCollector struct {
	cache *Cache
	desc  *prometheus.Desc
}

func (x *expiryCollector) Describe(ch chan<- *prometheus.Desc) { ch <- x.desc }

func (x *expiryCollector) Collect(ch chan<- prometheus.Metric) {
	for name, left := range x.cache.soonest(time.Now()) {
		ch <- prometheus.MustNewConstMetric(x.desc, prometheus.GaugeValue, left.Seconds(), name)
	}
}

// soonest is the least time to the end of a live value, per credential.
func (c *Cache) soonest(now time.Time) map[string]time.Duration {
	c.mu.RLock()
	defer c.mu.RUnlock()
	out := map[string]time.Duration{}
	for k, e := range c.store.entries {
		v := e.value.Load()
		if v == nil {
			continue
		}
		left := v.life.length - v.life.elapsed(now)
		if old, ok := out[k.Provider]; !ok || left < old {
			out[k.Provider] = left
		}
	}
	return out
}
