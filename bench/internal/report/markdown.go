// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/stats"
)

// A ratio whose quartiles lie further apart than this share of it is not printed, nor a
// difference (of latencies, which spread more) beyond the other.
const (
	noisyRatio      = 0.25
	noisyDifference = 0.5
)

// Markdown writes the report for people.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# What egret costs, %s\n\n", r.Date.UTC().Format(time.DateOnly))
	b.WriteString(intro)
	r.warning(&b)
	r.ratios(&b)
	r.verdict(&b)
	r.latencies(&b)
	r.figures(&b)
	r.setting(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

const intro = `The same requests go to the same origin directly, through goproxy's own MITM with one header put in, and through
` + "`egret run`" + `. goproxy here asks nobody and writes nothing; egret finds out who calls, asks the policy, takes the
credential from its cache, cleans the headers and writes one record for each request. Medians over the rounds, with
quartiles in brackets; ratios and differences are taken within a round and only then summed up. "noisy" stands where the
quartiles are too far apart for the figure to mean anything.

`

// busy is the share of the machine that others may use before the report says so first.
const busy = 0.1

func (r *Report) warning(b *strings.Builder) {
	if f := r.foreign(); f.Median > busy {
		fmt.Fprintf(b, "**The machine was not quiet: others used %.0f %% of it meanwhile.** CPU ratios bear that; speed and latency are those of a\nbusy machine and only good for comparing the columns.\n\n", 100*f.Median)
	}
}

func (r *Report) ratios(b *strings.Builder) {
	b.WriteString("## Ratios\n\n| load | CPU of the proxy, egret ÷ goproxy | speed, egret ÷ goproxy | speed, egret ÷ direct |\n|---|---|---|---|\n")
	for _, l := range r.Loads {
		if l.Rate {
			continue
		}
		speed, cost := r.metrics(l.Name)
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", l.Name, ratioText(r.ratio(l.Name, Goproxy, cost)),
			ratioText(r.ratio(l.Name, Goproxy, speed)), ratioText(r.ratio(l.Name, Direct, speed)))
	}
	b.WriteString("\nCPU: lower is better for egret. Speed (requests/s, bytes/s for downloads): higher is better; origin, load and\nproxy share the cores, so that CPU is the figure that carries over to other machines.\n\n")
}

// verdict says in words where egret costs more than its peer and where less.
func (r *Report) verdict(b *strings.Builder) {
	var more, less, open []string
	for _, l := range r.Loads {
		if l.Rate {
			continue
		}
		_, cost := r.metrics(l.Name)
		switch s := r.ratio(l.Name, Goproxy, cost); {
		case s.Noisy(noisyRatio), s.Q1 <= 1 && s.Q3 >= 1:
			open = append(open, l.Name)
		case s.Median > 1:
			more = append(more, fmt.Sprintf("%s (%+.0f %%)", l.Name, 100*(s.Median-1)))
		default:
			less = append(less, fmt.Sprintf("%s (%+.0f %%)", l.Name, 100*(s.Median-1)))
		}
	}
	for _, line := range []struct {
		what  string
		names []string
	}{{"egret needs more CPU than goproxy", more}, {"egret needs less", less}, {"no difference that these rounds could show", open}} {
		if len(line.names) > 0 {
			fmt.Fprintf(b, "* %s: %s\n", line.what, strings.Join(line.names, "; "))
		}
	}
	b.WriteString("\n")
}

func (r *Report) latencies(b *strings.Builder) {
	b.WriteString("## Added latency, at a fixed rate (open loop)\n\n| load | direct p50 | egret adds | goproxy adds | direct p99 | egret adds | goproxy adds |\n|---|---|---|---|---|---|---|\n")
	for _, l := range r.Loads {
		if !l.Rate {
			continue
		}
		fmt.Fprintf(b, "| %s", l.Name)
		for _, m := range []metric{p50, p99} {
			fmt.Fprintf(b, " | %s | %s | %s", durationText(r.spread(l.Name, Direct, m)),
				addedText(r.added(l.Name, Egret, m)), addedText(r.added(l.Name, Goproxy, m)))
		}
		b.WriteString(" |\n")
	}
	b.WriteString("\nLatencies count from when a request was due, so that a stall is charged to all requests that would have met it.\n\n")
}

func (r *Report) figures(b *strings.Builder) {
	b.WriteString("## Figures\n\n| load | target | speed | CPU of the proxy per request | p50 | p99 |\n|---|---|---|---|---|---|\n")
	for _, l := range r.Loads {
		for _, target := range []string{Direct, Goproxy, Egret} {
			speed := numberText(r.spread(l.Name, target, rate), 1, "/s")
			if r.large(l.Name) {
				speed = numberText(r.spread(l.Name, target, byteRate), 1<<20, " MiB/s")
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", l.Name, target, speed,
				durationText(r.costOfOne(l.Name, target)), durationText(r.spread(l.Name, target, p50)), durationText(r.spread(l.Name, target, p99)))
		}
	}
	b.WriteString("\nLatencies of closed loops are those of a saturated machine: they show the queue, not the proxy.\n\n")
}

// costOfOne is the CPU time for one request; for downloads it comes from the bytes, so
// that a request cut by the window's edge counts for what was done of it.
func (r *Report) costOfOne(loadName, target string) stats.Spread {
	if !r.large(loadName) {
		return r.spread(loadName, target, cpu)
	}
	i := slices.IndexFunc(r.Loads, func(l Load) bool { return l.Name == loadName })
	size := float64(r.Loads[i].Bytes)
	return r.spread(loadName, target, func(x load.Result) float64 { return cpuPerByte(x) * size })
}

func (r *Report) setting(b *strings.Builder) {
	f := r.foreign()
	failed, first := r.Errors()
	fmt.Fprintf(b, "## Setting\n\n* machine: %d cores, %s, %s %s, %s; load average %s before, %s after\n", r.Machine.Cores, r.Machine.CPU,
		r.Machine.OS, r.Machine.Kernel, r.Machine.Arch, r.Machine.Load, r.LoadEnd)
	fmt.Fprintf(b, "* CPU that others used meanwhile: %.0f %% of the machine (%.0f–%.0f)\n", 100*f.Median, 100*f.Q1, 100*f.Q3)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(b, "* %s: %s\n", name, r.Versions[name])
	}
	fmt.Fprintf(b, "* egret: %d access policies, sidecar identity with kernel check, static credential from a file, records to a file, metrics on, else defaults\n", r.Grants)
	b.WriteString("* goproxy: certificates cached, ECDSA CA, HTTP/2 on, upstream verified, 256 idle upstream connections kept\n")
	b.WriteString("* origin: TLS 1.3, ECDSA P-256, refuses requests without the credential; everything on loopback\n")
	fmt.Fprintf(b, "* %d rounds, interleaved, windows of %s; requests that failed: %d", r.Rounds, r.Window, failed)
	if first != "" {
		fmt.Fprintf(b, " (first: %q)", first)
	}
	fmt.Fprintf(b, "\n* command: `%s`\n", r.Command)
}
