// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"slices"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Measures of windows. Any other name is that of a Figure.
const (
	CPU      = "cpu"       // of the proxy for each request (or body), nanoseconds
	Speed    = "speed"     // requests/s, or bytes/s of large bodies
	P50      = "p50"       // latency, nanoseconds
	P99      = "p99"       //
	AddedP50 = "added p50" // latency over that of direct requests in the same round
	AddedP99 = "added p99" //
)

// large is the size from which a load's bytes count, not its requests.
const large = 1 << 20

func (l Load) kind() Kind {
	switch {
	case l.Kind != "":
		return l.Kind
	case l.Rate:
		return Paced
	case l.Bytes >= large:
		return Bytes
	}
	return Requests
}

// of reads one measure of a window; 0 is "not known".
func (l Load) of(measure string, r load.Result) float64 {
	switch measure {
	case CPU:
		return l.cpu(r)
	case Speed:
		if l.kind() == Bytes {
			return perSecond(r.Bytes, r)
		}
		return perSecond(r.Requests, r)
	case P50:
		return float64(r.Latency.P50)
	case P99:
		return float64(r.Latency.P99)
	}
	return 0
}

// cpu is the proxy's CPU time for one request. For large bodies it comes from the bytes,
// which count as they come, so that one cut by the window's edge counts for what was
// done of it.
func (l Load) cpu(r load.Result) float64 {
	done, spent := float64(r.Requests), float64(r.CPU["proxy"])
	if l.kind() == Bytes && l.Bytes > 0 {
		done = float64(r.Bytes) / float64(l.Bytes)
	}
	if done == 0 {
		return 0
	}
	return spent / done
}

func perSecond(n int64, r load.Result) float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(n) / r.Elapsed.Seconds()
}

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

// Series reads one measure of every round, in order; 0 where a round lacks it.
func (r *Report) Series(loadName, target, measure string) []float64 {
	switch measure {
	case AddedP50:
		return minus(r.Series(loadName, target, P50), r.Series(loadName, Direct, P50))
	case AddedP99:
		return minus(r.Series(loadName, target, P99), r.Series(loadName, Direct, P99))
	}
	out := make([]float64, r.Rounds)
	if i := slices.IndexFunc(r.Loads, func(l Load) bool { return l.Name == loadName }); i >= 0 {
		for _, w := range r.Windows {
			if w.Load == loadName && w.Target == target && w.Round < r.Rounds {
				out[w.Round] = r.Loads[i].of(measure, w.Result)
			}
		}
	}
	for _, f := range r.Figures {
		if f.Name == measure && f.Load == loadName && f.Target == target && f.Round < r.Rounds {
			out[f.Round] = f.Value
		}
	}
	return out
}

// minus subtracts round by round; 0 where either is not known.
func minus(a, b []float64) []float64 {
	out := make([]float64, len(a))
	for i := range a {
		if a[i] > 0 && b[i] > 0 {
			out[i] = a[i] - b[i]
		}
	}
	return out
}

// spread sums up a measure; none where it is not known or always 0.
func (r *Report) spread(loadName, target, measure string) stats.Spread {
	known := slices.DeleteFunc(r.Series(loadName, target, measure), func(v float64) bool { return v == 0 })
	return stats.Of(known)
}

// ratio is what egret shows for each of what another target shows, round by round.
func (r *Report) ratio(loadName, other, measure string) stats.Spread {
	return stats.Of(stats.Ratios(r.Series(loadName, Egret, measure), r.Series(loadName, other, measure)))
}

// targets are in the order of the tables.
func (r *Report) targets() []string {
	var out []string
	for _, t := range r.Targets {
		out = append(out, t.Name)
	}
	add := func(name string) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, w := range r.Windows {
		add(w.Target)
	}
	for _, f := range r.Figures {
		add(f.Target)
	}
	return out
}

// peers are the targets that egret is compared with: not Direct, nor egret itself in
// another setting, called egret-SOMETHING.
func (r *Report) peers() []string {
	return slices.DeleteFunc(r.targets(), func(t string) bool { return t == Direct || own(t) })
}

// own reports whether a target is egret.
func own(target string) bool { return target == Egret || strings.HasPrefix(target, Egret+"-") }

// loads are those of the kinds.
func (r *Report) loads(kinds ...Kind) []Load {
	return slices.DeleteFunc(slices.Clone(r.Loads), func(l Load) bool { return !slices.Contains(kinds, l.kind()) })
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
