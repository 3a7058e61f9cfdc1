// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package compare says what has changed for egret between two runs, and how sure that is:
// medians, their difference, and the probability that chance alone made it (an exact
// Mann-Whitney test over the rounds, as benchstat does).
package compare

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Alpha is the probability of chance below which a difference is shown.
const Alpha = 0.05

// Change is one row of both runs.
type Change struct {
	Name, Measure string
	Unit          report.Unit
	Higher        bool  // is better
	Own           Delta // of the figure itself
	Peers         []Delta
}

// Delta is what two samples show.
type Delta struct {
	Peer     string // empty: of the figure; else of its ratio to this peer
	Old, New stats.Spread
	P        float64 // that chance alone makes them differ so
}

// Runs compares all that both runs have; rows of one measure stand together.
func Runs(before, after *report.Report) []Change {
	var out []Change
	now := after.Rows()
	for _, b := range before.Rows() {
		i := slices.IndexFunc(now, func(r report.Row) bool { return r.Name == b.Name && r.Measure == b.Measure })
		if i < 0 {
			continue
		}
		a := now[i]
		c := Change{Name: b.Name, Measure: b.Measure, Unit: b.Unit, Higher: b.Higher, Own: delta("", b.Values, a.Values)}
		for _, peer := range slices.Sorted(maps.Keys(b.Ratios)) {
			if len(a.Ratios[peer]) > 0 {
				c.Peers = append(c.Peers, delta(peer, b.Ratios[peer], a.Ratios[peer]))
			}
		}
		out = append(out, c)
	}
	return byMeasure(out)
}

// byMeasure brings measures into the order in which each comes first.
func byMeasure(changes []Change) []Change {
	var order []string
	for _, c := range changes {
		if !slices.Contains(order, c.Measure) {
			order = append(order, c.Measure)
		}
	}
	slices.SortStableFunc(changes, func(x, y Change) int {
		return slices.Index(order, x.Measure) - slices.Index(order, y.Measure)
	})
	return changes
}

func delta(peer string, before, after []float64) Delta {
	return Delta{Peer: peer, Old: stats.Of(before), New: stats.Of(after), P: stats.MannWhitney(before, after)}
}

// Share is by how much the median has changed: 0.1 is a tenth more.
func (d Delta) Share() float64 {
	if d.Old.Median == 0 {
		return 0
	}
	return d.New.Median/d.Old.Median - 1
}

// Shown reports whether chance alone is too improbable an explanation.
func (d Delta) Shown() bool { return d.P < Alpha }

// worse reports whether a change for the worse is shown that exceeds the share.
func (d Delta) worse(share float64, higher bool) bool {
	change := d.Share()
	if higher {
		change = -change
	}
	return d.Shown() && change > share
}

// Regressed reports whether egret has certainly become worse by more than the share. A
// machine that was slower changes all figures alike: where the runs have peers in common,
// the ratio to each of them must have become worse too.
func (c Change) Regressed(share float64) bool {
	return c.Own.worse(share, c.Higher) &&
		!slices.ContainsFunc(c.Peers, func(d Delta) bool { return !d.worse(share, c.Higher) })
}

// Regressed names the rows that have certainly become worse by more than the share.
func Regressed(changes []Change, share float64) []string {
	var out []string
	for _, c := range changes {
		if c.Regressed(share) {
			out = append(out, fmt.Sprintf("%s: %s (%+.1f%%)", c.Name, c.Measure, 100*c.Own.Share()))
		}
	}
	return out
}

// Write prints the changes as aligned text. Without a difference that can be shown there
// stands "~".
func Write(w io.Writer, changes []Change) error {
	if len(changes) == 0 {
		_, err := fmt.Fprintln(w, "the runs have nothing in common")
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	measure := ""
	for _, c := range changes {
		if c.Measure != measure {
			measure = c.Measure
			_, _ = fmt.Fprintf(tw, "%s\told\tnew\tchange\n", strings.ToUpper(measure))
		}
		c.Own.write(tw, c.Name, func(v float64) string { return report.ValueText(v, c.Unit) })
		for _, d := range c.Peers {
			d.write(tw, "  ÷ "+d.Peer, func(v float64) string { return fmt.Sprintf("%.2f", v) })
		}
	}
	return tw.Flush()
}

func (d Delta) write(w io.Writer, name string, text func(float64) string) {
	_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", name, spreadText(d.Old, text), spreadText(d.New, text), d.text())
}

// spreadText has the median and the larger distance to a quartile.
func spreadText(s stats.Spread, text func(float64) string) string {
	if s.Median == 0 {
		return text(0)
	}
	return fmt.Sprintf("%s ±%.0f%%", text(s.Median), 100*max(s.Q3-s.Median, s.Median-s.Q1)/s.Median)
}

func (d Delta) text() string {
	n := fmt.Sprintf("n=%d+%d", d.Old.N, d.New.N)
	switch {
	case stats.LeastP(d.Old.N, d.New.N) >= Alpha:
		return "~ (" + n + " is too few to show any)"
	case !d.Shown():
		return fmt.Sprintf("~ (p=%.3f %s)", d.P, n)
	}
	return fmt.Sprintf("%+.1f%% (p=%.3f %s)", 100*d.Share(), d.P, n)
}
