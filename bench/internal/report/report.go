// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package report turns windows of measurement into what people read: ratios first, with
// their spread, and no figure that the spread makes meaningless.
package report

import (
	"slices"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/origin"
	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Targets, as in Window.Target.
const (
	Direct  = "direct"
	Goproxy = "goproxy"
	Egret   = "egret"
)

// Report is a whole run. Its JSON form holds every window, so that other questions can
// be asked of it later.
type Report struct {
	Date     time.Time         `json:"date"`
	Command  string            `json:"command"`
	Machine  host.Machine      `json:"machine"`
	LoadEnd  string            `json:"load_end,omitempty"` // load averages at the end
	Versions map[string]string `json:"versions"`
	Grants   int               `json:"grants"`
	Rounds   int               `json:"rounds"`
	Window   time.Duration     `json:"window_ns"`
	Loads    []Load            `json:"loads"`
	Windows  []Window          `json:"windows"`
}

// Load is one kind of traffic.
type Load struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`          // of every body
	Rate  bool   `json:"rate,omitempty"` // open loop: latency is what it shows, not requests/s
}

// Window is one measurement of one target.
type Window struct {
	Round  int           `json:"round"`
	Load   string        `json:"load"`
	Target string        `json:"target"`
	Result load.Result   `json:"result"`
	Origin origin.Counts `json:"origin"` // what arrived, warm-up included
}

// metric reads one figure from a window; 0 is "not known".
type metric func(load.Result) float64

func rate(r load.Result) float64 { return r.Rate() }
func p50(r load.Result) float64  { return float64(r.Latency.P50) }
func p99(r load.Result) float64  { return float64(r.Latency.P99) }

// cpu is the proxy's CPU time for one request.
func cpu(r load.Result) float64 {
	if r.Requests == 0 {
		return 0
	}
	return float64(r.CPU["proxy"]) / float64(r.Requests)
}

// cpuPerByte is what a download costs. Bytes count as they come, so that a long answer
// is not lost at a window's edge.
func cpuPerByte(r load.Result) float64 {
	if r.Bytes == 0 {
		return 0
	}
	return float64(r.CPU["proxy"]) / float64(r.Bytes)
}

// byteRate is the bytes of bodies per second.
func byteRate(r load.Result) float64 { return float64(r.Bytes) / r.Elapsed.Seconds() }

// foreign is the share of the machine that neither proxy nor origin nor load used.
func foreign(r load.Result) float64 {
	if r.Machine.Total <= 0 {
		return 0
	}
	busy := r.Machine.Busy
	for _, d := range r.CPU {
		busy -= d
	}
	return max(0, float64(busy)/float64(r.Machine.Total))
}

// sample reads one figure of every round, in order.
func (r *Report) sample(loadName, target string, m metric) []float64 {
	out := make([]float64, r.Rounds)
	for _, w := range r.Windows {
		if w.Load == loadName && w.Target == target && w.Round < r.Rounds {
			out[w.Round] = m(w.Result)
		}
	}
	return out
}

func (r *Report) spread(loadName, target string, m metric) stats.Spread {
	s := stats.Of(r.sample(loadName, target, m))
	if s.Median == 0 {
		return stats.Spread{}
	}
	return s
}

// ratio is what egret shows for each of what another target shows, round by round.
func (r *Report) ratio(loadName, other string, m metric) stats.Spread {
	return stats.Of(stats.Ratios(r.sample(loadName, Egret, m), r.sample(loadName, other, m)))
}

// added is what a target adds to direct requests, round by round.
func (r *Report) added(loadName, target string, m metric) stats.Spread {
	return stats.Of(stats.Differences(r.sample(loadName, target, m), r.sample(loadName, Direct, m)))
}

// large reports whether a load's answers are so long that bytes are what counts.
func (r *Report) large(loadName string) bool {
	return slices.ContainsFunc(r.Loads, func(l Load) bool { return l.Name == loadName && l.Bytes >= 1<<20 })
}

// metrics are the figures of speed and cost that fit a load.
func (r *Report) metrics(loadName string) (speed, cost metric) {
	if r.large(loadName) {
		return byteRate, cpuPerByte
	}
	return rate, cpu
}

// Errors is how many requests failed over all windows, and the first of their errors.
func (r *Report) Errors() (n int64, first string) {
	for _, w := range r.Windows {
		if n += w.Result.Errors; first == "" {
			first = w.Result.Error
		}
	}
	return n, first
}

func (r *Report) foreign() stats.Spread {
	var all []float64
	for _, w := range r.Windows {
		all = append(all, foreign(w.Result))
	}
	return stats.Of(all)
}
