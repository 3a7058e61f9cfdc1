// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"

	"github.com/egret-proxy/egret/bench/internal/plot"
	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Plots, as in the names of their files.
const (
	plotCPU     = "cpu"
	plotLatency = "latency"
	plotGrowth  = "growth"
)

func (r *Report) plotName(kind string) string { return r.Stem() + "-" + kind + ".svg" }

// Plots draws what the report names, by file name.
func (r *Report) Plots() map[string][]byte {
	out := map[string][]byte{}
	if loads := r.loads(Requests, Bytes); len(loads) > 0 && len(r.peers()) > 0 {
		out[r.plotName(plotCPU)] = r.cpuPlot(loads)
	}
	if loads := r.loads(Paced); len(loads) > 0 {
		out[r.plotName(plotLatency)] = r.latencyPlot(loads)
	}
	if len(r.Curves) > 0 {
		out[r.plotName(plotGrowth)] = r.growthPlot()
	}
	return out
}

// subtitle says where it was measured.
func (r *Report) subtitle(what string) string {
	return fmt.Sprintf("%s · %s, %d cores, %s", what, r.Machine.CPU, r.Machine.Cores, r.Date.UTC().Format("2006-01-02"))
}

func (r *Report) cpuPlot(loads []Load) []byte {
	chart := plot.Bars{Title: "CPU of the proxy for each request", Subtitle: r.subtitle("shorter is better; median with quartiles; direct has no proxy")}
	for _, l := range loads {
		title := l.Name
		if l.Unit != "" {
			title += ": for each " + l.Unit
		}
		chart.Panels = append(chart.Panels, r.panel(title, l.Name, CPU, Direct))
	}
	return chart.SVG()
}

func (r *Report) latencyPlot(loads []Load) []byte {
	chart := plot.Bars{Title: "Latency at a fixed rate", Subtitle: r.subtitle("counted from when a request was due; shorter is better; median with quartiles")}
	for _, l := range loads {
		for _, measure := range []string{P50, P99} {
			chart.Panels = append(chart.Panels, r.panel(l.Name+": "+measure, l.Name, measure, ""))
		}
	}
	return chart.SVG()
}

// panel has a bar for each target but one.
func (r *Report) panel(title, loadName, measure, without string) plot.BarPanel {
	p := plot.BarPanel{Title: title, Format: axisText(Nanoseconds)}
	for _, target := range r.targets() {
		s := r.spread(loadName, target, measure)
		if target == without || s.N == 0 {
			continue
		}
		p.Bars = append(p.Bars, plot.Bar{Label: target, Value: s.Median, Low: s.Q1, High: s.Q3, Main: target == Egret})
	}
	return p
}

func (r *Report) growthPlot() []byte {
	chart := plot.Curves{Title: "What grows with what", Subtitle: r.subtitle("median with quartiles")}
	for _, name := range r.panels() {
		curves := r.curvesOf(name)
		p := plot.CurvePanel{Title: name, X: curves[0].X, Y: curves[0].Y, Format: axisText(curves[0].Unit), Binary: curves[0].Unit == Octets}
		for _, c := range curves {
			p.Lines = append(p.Lines, plot.Line{Name: c.Name, Marks: c.marks()})
		}
		chart.Panels = append(chart.Panels, p)
	}
	return chart.SVG()
}

func (c Curve) marks() []plot.Mark {
	var out []plot.Mark
	for _, x := range c.Xs() {
		s := c.At(x)
		out = append(out, plot.Mark{X: x, Value: s.Median, Low: s.Q1, High: s.Q3})
	}
	return out
}

// axisText prints zero without a unit and other values shortly.
func axisText(u Unit) plot.Format {
	return func(v float64) string {
		if v == 0 {
			return "0"
		}
		return unitText(stats.Of([]float64{v}), u)
	}
}
