// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the leaf cache. No label grows with traffic.
type metrics struct {
	hit, miss, refused prometheus.Counter
	mint               prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer, issuer Issuer) (*metrics, error) {
	lookups := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "egret_leaf_cache_total",
		Help: "Look-ups of leaf certificates: hit, miss (one was made), refused.",
	}, []string{"result"})
	m := &metrics{
		hit:     lookups.WithLabelValues("hit"),
		miss:    lookups.WithLabelValues("miss"),
		refused: lookups.WithLabelValues("refused"),
		mint: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "egret_leaf_mint_seconds",
			Help:    "Time to make a leaf certificate.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .01, .05, .25, 1, 5},
		}),
	}
	collectors := []prometheus.Collector{lookups, m.mint}
	if e, ok := issuer.(Expirer); ok {
		collectors = append(collectors, expiryGauge(e))
	}
	return m, register(reg, collectors)
}

func expiryGauge(e Expirer) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "egret_issuer_expiry_seconds",
		Help: "Seconds until a permitted host has no living intermediate; negative after that.",
	}, func() float64 { return time.Until(e.Expires()).Seconds() })
}

func register(reg prometheus.Registerer, collectors []prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	var faults []error
	for _, c := range collectors {
		faults = append(faults, reg.Register(c))
	}
	return errors.Join(faults...)
}
