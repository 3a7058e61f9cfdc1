// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/egret-proxy/egret/bench/internal/stats"
)

// flat is how much a curve may rise and still be called flat; it may fall.
const flat = 0.10

// At sums up a curve's points of one X.
func (c Curve) At(x float64) stats.Spread {
	var values []float64
	for _, p := range c.Points {
		if p.X == x {
			values = append(values, p.Value)
		}
	}
	return stats.Of(values)
}

// Xs are the places of a curve, ascending.
func (c Curve) Xs() []float64 {
	var out []float64
	for _, p := range c.Points {
		out = append(out, p.X)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Rise is the figure at x for each at the first place, round by round.
func (c Curve) Rise(x float64) stats.Spread {
	xs := c.Xs()
	return stats.Of(stats.Ratios(c.rounds(x), c.rounds(xs[0])))
}

// rounds are the values at x in the order of the rounds, 0 where there is none.
func (c Curve) rounds(x float64) []float64 {
	var out []float64
	for _, p := range c.Points {
		if p.X == x {
			out = append(out, make([]float64, max(0, p.Round+1-len(out)))...)
			out[p.Round] = p.Value
		}
	}
	return out
}

// verdict compares every place of the curve with the first and names the worst. A spread
// that is wide leaves it open only where it lies on both sides of the bound.
func (c Curve) verdict() string {
	xs := c.Xs()
	if !c.Flat || len(xs) < 2 {
		return nothing
	}
	worst, at, open := stats.Spread{Median: 1}, xs[0], false
	for _, x := range xs[1:] {
		s := c.Rise(x)
		if open = open || s.N < 3 || s.Noisy(noisyRatio) && s.Q1 <= 1+flat && s.Q3 > 1+flat; s.Median > worst.Median {
			worst, at = s, x
		}
	}
	text := fmt.Sprintf("× %.2f (%.2f–%.2f) at %s", worst.Median, worst.Q1, worst.Q3, countText(at))
	switch {
	case worst.Q1 > 1+flat && worst.Noisy(noisyRatio):
		return "**grows**, noisy"
	case worst.Q1 > 1+flat:
		return "**" + text + "**"
	case open:
		return noisy
	case worst.Median <= 1+flat:
		return "flat"
	}
	return "perhaps " + text
}

// panels are the names of the curves' panels, in order.
func (r *Report) panels() []string {
	var out []string
	for _, c := range r.Curves {
		if !slices.Contains(out, c.Panel) {
			out = append(out, c.Panel)
		}
	}
	return out
}

func (r *Report) curvesOf(panel string) []Curve {
	return slices.DeleteFunc(slices.Clone(r.Curves), func(c Curve) bool { return c.Panel != panel })
}

func (r *Report) growth(b *strings.Builder) {
	if len(r.Curves) == 0 {
		return
	}
	fmt.Fprintf(b, "## What grows with what\n\nA curve is flat where no place of it is more than %.0f %% above the first, ratios taken within\nrounds; it may fall. \"Perhaps\" stands where the quartiles are on both sides of that.\n\n![Growth](%s)\n\n", 100*flat, r.plotName(plotGrowth))
	for _, panel := range r.panels() {
		curves := r.curvesOf(panel)
		fmt.Fprintf(b, "### %s\n\n", panel)
		r.curveTable(b, curves)
		for _, c := range curves {
			if c.Why != "" {
				fmt.Fprintf(b, "* %s: %s\n", c.Name, c.Why)
			}
		}
		b.WriteString("\n")
	}
}

func (r *Report) curveTable(b *strings.Builder, curves []Curve) {
	columns := []string{curves[0].X}
	var xs []float64
	for _, c := range curves {
		columns = append(columns, c.Name)
		xs = append(xs, c.Xs()...)
	}
	slices.Sort(xs)
	table(b, columns...)
	for _, x := range slices.Compact(xs) {
		fmt.Fprintf(b, "| %s |", countText(x))
		for _, c := range curves {
			fmt.Fprintf(b, " %s |", unitText(c.At(x), c.Unit))
		}
		b.WriteString("\n")
	}
	b.WriteString("| **growth** |")
	for _, c := range curves {
		fmt.Fprintf(b, " %s |", c.verdict())
	}
	b.WriteString("\n\n")
}

func (r *Report) steps(b *strings.Builder) {
	if len(r.Steps) == 0 {
		return
	}
	b.WriteString("## Steps\n\nGo benchmarks of the parts of a request, each by itself, on one core.\n\n")
	table(b, "step", "case", "time", "allocations", "bytes", "benchmark")
	for _, s := range r.Steps {
		fmt.Fprintf(b, "| %s | %s | %s | %.0f | %.0f | `%s` |\n", s.Name, s.Case, durationText(stats.Of(s.Nanoseconds)), s.Allocations, s.Bytes, s.Benchmark)
	}
	b.WriteString("\n")
}

// Merge takes the parts that r lacks from another run: loads with their windows, figures,
// steps, curves and goals. Rounds of windows stay those of the run that has them.
func (r *Report) Merge(o *Report) {
	if len(r.Windows) == 0 && len(o.Windows) > 0 {
		r.Loads, r.Windows, r.Window, r.Targets, r.Grants = o.Loads, o.Windows, o.Window, o.Targets, o.Grants
	}
	if len(r.Goals) == 0 {
		r.Goals = o.Goals
	}
	r.Rounds = max(r.Rounds, o.Rounds)
	r.Figures = append(r.Figures, o.Figures...)
	r.Steps = append(r.Steps, o.Steps...)
	r.Curves = append(r.Curves, o.Curves...)
	r.Versions = maps.Clone(r.Versions)
	if r.Versions == nil {
		r.Versions = map[string]string{}
	}
	for name, v := range o.Versions {
		switch was := r.Versions[name]; {
		case was == "":
			r.Versions[name] = v
		case !slices.Contains(strings.Split(was, " and "), v):
			r.Versions[name] = was + " and " + v
		}
	}
	r.Command = strings.Join([]string{r.Command, o.Command}, " && ")
	if o.Date.After(r.Date) {
		r.LoadEnd = o.LoadEnd
	}
}
