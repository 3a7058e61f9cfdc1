// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the Journal's own. None has a label.
type metrics struct {
	written, lost, refused, errors, misused prometheus.Counter
}

func newMetrics(j *Journal, reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		written: counter("written_total", "Audit records that the sink has taken."),
		lost:    counter("lost_total", "Audit records that were lost: dropped for want of a place, or not written before the end."),
		refused: counter("refused_total", "Times that no place was given, so that a request had to be refused."),
		errors:  counter("write_errors_total", "Writes and syncs of the audit sink that failed."),
		misused: counter("misuse_total", "Second writes to one audit slot: a bug in egret."),
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range append(m.gauges(j), m.written, m.lost, m.refused, m.errors, m.misused) {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

func (m *metrics) gauges(j *Journal) []prometheus.Collector {
	return []prometheus.Collector{
		gauge("queue", "Audit places taken: records reserved or not yet written.", func() float64 {
			return float64(j.open.Load())
		}),
		gauge("queue_limit", "Audit places there are.", func() float64 { return float64(len(j.places)) }),
		gauge("failing", "1 while the audit sink does not take records.", func() float64 {
			if j.failure.Load() != nil {
				return 1
			}
			return 0
		}),
	}
}

func counter(name, help string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "egret", Subsystem: "audit", Name: name, Help: help})
}

func gauge(name, help string, f func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "egret", Subsystem: "audit", Name: name, Help: help}, f)
}
