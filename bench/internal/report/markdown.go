// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/stats"
)

// Stem is the name of the report's files, without what tells them apart.
func (r *Report) Stem() string {
	if r.Name != "" {
		return r.Name
	}
	return r.Date.UTC().Format(time.DateOnly)
}

// Markdown writes the report for people. It names the plots that Plots makes.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# What egret costs, %s\n\n", r.Date.UTC().Format(time.DateOnly))
	if len(r.Windows) > 0 {
		b.WriteString(intro)
	}
	r.warning(&b)
	r.goalTable(&b)
	r.ratios(&b)
	r.latencies(&b)
	r.figures(&b)
	r.growth(&b)
	r.steps(&b)
	r.windows(&b)
	r.setting(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

const intro = "The same requests go to the same origin directly, through each peer, and through `egret run`. Peers ask nobody and write nothing,\n" +
	"they put one header in. egret finds out who calls, asks the policy, takes the credential from its cache, cleans the headers and\n" +
	"writes one record for each request. Medians over the rounds, with quartiles in brackets; ratios and differences are taken within\n" +
	"a round and only then summed up. \"noisy\" stands where the quartiles are too far apart for the figure to mean anything.\n\n"

// busy is the share of the machine that others may use before the report says so first.
const busy = 0.1

func (r *Report) warning(b *strings.Builder) {
	if f := r.foreign(); f.Median > busy {
		fmt.Fprintf(b, "**The machine was not quiet: others used %.0f %% of it meanwhile.** CPU ratios bear that; speed and latency are those of a\nbusy machine and only good for comparing the columns.\n\n", 100*f.Median)
	}
}

// table writes a header of the columns.
func table(b *strings.Builder, columns ...string) {
	fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
}

func (r *Report) ratios(b *strings.Builder) {
	loads := r.loads(Requests, Bytes)
	if len(loads) == 0 {
		return
	}
	b.WriteString("## CPU of the proxy: egret ÷ peer\n\nLower is better for egret: 0.50 is half the CPU time for each request.\n\n")
	r.ratioTable(b, loads, CPU, r.peers())
	r.verdicts(b, loads)
	if len(r.peers()) > 0 {
		fmt.Fprintf(b, "![CPU of the proxy for each request](%s)\n\n", r.plotName(plotCPU))
	}
	b.WriteString("## Speed: egret ÷ others\n\nRequests/s, bytes/s for large bodies; higher is better for egret. Origin, load and proxy share the cores: CPU is the\nfigure that carries over to other machines.\n\n")
	r.ratioTable(b, loads, Speed, append([]string{Direct}, r.peers()...))
}

func (r *Report) ratioTable(b *strings.Builder, loads []Load, measure string, others []string) {
	columns := []string{"load"}
	for _, other := range others {
		columns = append(columns, "÷ "+other)
	}
	table(b, columns...)
	for _, l := range loads {
		fmt.Fprintf(b, "| %s |", l.Name)
		for _, other := range others {
			fmt.Fprintf(b, " %s |", ratioText(r.ratio(l.Name, other, measure)))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// verdicts says in words where egret costs more than each peer and where less.
func (r *Report) verdicts(b *strings.Builder, loads []Load) {
	for _, peer := range r.peers() {
		var more, less, open []string
		for _, l := range loads {
			switch s := r.ratio(l.Name, peer, CPU); {
			case s.N == 0:
			case s.Noisy(noisyRatio), s.Q1 <= 1 && s.Q3 >= 1:
				open = append(open, l.Name)
			case s.Median > 1:
				more = append(more, fmt.Sprintf("%s (%+.0f %%)", l.Name, 100*(s.Median-1)))
			default:
				less = append(less, fmt.Sprintf("%s (%+.0f %%)", l.Name, 100*(s.Median-1)))
			}
		}
		writeList(b, "egret needs more CPU than "+peer, more)
		writeList(b, "egret needs less than "+peer, less)
		writeList(b, "no difference to "+peer+" that these rounds could show", open)
	}
	b.WriteString("\n")
}

func writeList(b *strings.Builder, what string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(b, "* %s: %s\n", what, strings.Join(names, "; "))
	}
}

func (r *Report) latencies(b *strings.Builder) {
	loads := r.loads(Paced)
	if len(loads) == 0 {
		return
	}
	b.WriteString("## Added latency, at a fixed rate (open loop)\n\nLatencies count from when a request was due, so that a stall is charged to all requests that would have met it. Each proxy's row is\nwhat it adds to direct requests; in the last columns egret's is divided by it.\n\n")
	table(b, "load", "target", "p50", "p99", "p50: egret ÷", "p99: egret ÷")
	for _, l := range loads {
		for _, target := range r.targets() {
			fmt.Fprintf(b, "| %s | %s |", l.Name, target)
			if target == Direct {
				fmt.Fprintf(b, " %s | %s | | |\n", durationText(r.spread(l.Name, Direct, P50)), durationText(r.spread(l.Name, Direct, P99)))
				continue
			}
			fmt.Fprintf(b, " %s | %s | %s |\n", addedText(r.spread(l.Name, target, AddedP50)), addedText(r.spread(l.Name, target, AddedP99)), r.addedRatios(l.Name, target))
		}
	}
	fmt.Fprintf(b, "\n![Latency at a fixed rate](%s)\n\n", r.plotName(plotLatency))
}

func (r *Report) addedRatios(loadName, target string) string {
	if own(target) {
		return "|"
	}
	texts := make([]string, 0, 2)
	for _, measure := range []string{AddedP50, AddedP99} {
		texts = append(texts, shareText(r.ratio(loadName, target, measure), tolerance(measure)))
	}
	return strings.Join(texts, " | ")
}

// figures are the values that are no windows: a row for each name and load, a column for
// each target.
func (r *Report) figures(b *strings.Builder) {
	targets, rows := r.figureRows()
	if len(rows) == 0 {
		return
	}
	b.WriteString("## Memory, start, size\n\n")
	table(b, append([]string{"figure"}, targets...)...)
	for _, f := range rows {
		fmt.Fprintf(b, "| %s |", f.title())
		for _, target := range targets {
			fmt.Fprintf(b, " %s |", unitText(r.spread(f.Load, target, f.Name), f.Unit))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// figureRows are the targets that have figures, and one Figure for each row.
func (r *Report) figureRows() (targets []string, rows []Figure) {
	for _, f := range r.Figures {
		if !slices.Contains(targets, f.Target) {
			targets = append(targets, f.Target)
		}
		if !slices.ContainsFunc(rows, func(g Figure) bool { return g.Name == f.Name && g.Load == f.Load }) {
			rows = append(rows, f)
		}
	}
	order := r.targets()
	slices.SortStableFunc(targets, func(x, y string) int { return slices.Index(order, x) - slices.Index(order, y) })
	return targets, rows
}

func (f Figure) title() string {
	if f.Load == "" {
		return f.Name
	}
	return f.Name + ", " + f.Load
}

// windows prints what the ratios were made of.
func (r *Report) windows(b *strings.Builder) {
	loads := r.loads(Requests, Bytes, Paced)
	if len(loads) == 0 {
		return
	}
	b.WriteString("## Figures\n\n")
	table(b, "load", "target", "speed", "CPU of the proxy, each", "p50", "p99")
	for _, l := range loads {
		for _, target := range r.targets() {
			speed := r.spread(l.Name, target, Speed)
			if speed.N == 0 {
				continue
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", l.Name, target, l.speedText(speed), l.each(durationText(r.spread(l.Name, target, CPU))),
				durationText(r.spread(l.Name, target, P50)), durationText(r.spread(l.Name, target, P99)))
		}
	}
	b.WriteString("\nLatencies of closed loops are those of a saturated machine: they show the queue, not the proxy.\n\n")
}

func (l Load) speedText(s stats.Spread) string {
	if l.kind() == Bytes {
		return numberText(s, 1<<20, " MiB/s")
	}
	return numberText(s, 1, "/s")
}

// each says what the CPU time is for, where that is no request.
func (l Load) each(text string) string {
	if l.Unit == "" || text == nothing {
		return text
	}
	return text + " for each " + l.Unit
}
