// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
	"testing"
)

func TestVerdict(t *testing.T) {
	r := sample()
	for round := range r.Rounds {
		r.Figures = append(r.Figures, Figure{Name: "memory", Target: Egret, Round: round, Value: 20000 + 100*float64(round), Unit: Octets})
	}
	r.Figures = append(r.Figures, Figure{Name: "size", Target: Egret, Value: 30 << 20, Unit: Octets})
	for _, c := range []struct {
		goal Goal
		want Verdict
		text string
	}{
		{Goal{Load: "steady", Measure: CPU, Against: "goproxy", Most: 1.6}, Met, "| CPU, steady: egret ÷ goproxy | ≤ 1.60 | 1.50 (1.50–1.50) | met |"},
		{Goal{Load: "steady", Measure: CPU, Against: "goproxy", Most: 0.75}, NotMet, "| 1.50 (1.50–1.50) | **not met** |"},
		{Goal{Load: "wild", Measure: CPU, Against: "goproxy", Most: 9}, Unclear, "| ≤ 9.00 | noisy | noisy |"},
		{Goal{Load: "steady", Measure: CPU, Against: "nginx", Most: 1}, NotMeasured, "Not measured in this run: CPU, steady: egret ÷ nginx."},
		{Goal{Load: "steady", Measure: CPU, AgainstLoad: "steady", Most: 1}, Met, "| CPU, steady: ÷ steady | ≤ 1.00 | 1.00 (1.00–1.00) | met |"},
		{Goal{Load: "paced", Measure: AddedP50, Against: "goproxy", Most: 1.5}, Met, "| latency added p50, paced: egret ÷ goproxy |"},
		{Goal{Measure: "memory", Most: 20150, Unit: Octets}, Met, "| memory | ≤ 19.7 KiB | 19.7 KiB (19.6 KiB–19.8 KiB) | met, close |"},
		{Goal{Measure: "size", Most: 25 << 20, Unit: Octets}, NotMet, "| size | ≤ 25.0 MiB | 30.0 MiB"},
	} {
		if got := r.Verdict(c.goal); got != c.want {
			t.Errorf("%+v is %s, want %s", c.goal, got, c.want)
		}
		r.Goals = []Goal{c.goal}
		if got := markdown(t, r); !strings.Contains(got, c.text) {
			t.Errorf("no %q in %s", c.text, got[strings.Index(got, "## Goals"):strings.Index(got, "## CPU")])
		}
	}
}

func TestParseGoals(t *testing.T) {
	for _, c := range []struct{ js, err string }{
		{`[{"load": "h1", "measure": "cpu", "against": "nginx", "most": 1.5}]`, ""},
		{`[{"measure": "size", "most": 1, "unit": "B"}]`, ""},
		{`[{"measure": "size", "most": 1}]`, "a figure has one"},
		{`[{"measure": "cpu", "against": "x", "most": 1, "unit": "B"}]`, "a ratio none"},
		{`[{"measure": "cpu", "against": "x"}]`, "most is 0"},
		{`[{"against": "x", "most": 1}]`, "measure is empty"},
		{`[{"goal": 1}]`, "unknown field"},
	} {
		if _, err := ParseGoals([]byte(c.js)); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.js, err, c.err)
		}
	}
}

// grown is a report with one flat curve, one that grows, and one that nobody can read.
func grown() *Report {
	r := &Report{Rounds: 3}
	for name, f := range map[string]func(x float64, round int) float64{
		"flat":  func(_ float64, round int) float64 { return 1000 * float64(1+round) },
		"grows": func(x float64, round int) float64 { return (1000 + x) * float64(1+round) },
		"torn":  func(x float64, round int) float64 { return 1000 + x*float64(round-1)/20 },
		"wild":  func(x float64, round int) float64 { return 1000 + x*float64(round) },
	} {
		c := Curve{Panel: name, Name: "line", X: "connections", Y: "CPU", Unit: Nanoseconds, Flat: true, Why: "it is so"}
		for _, x := range []float64{1, 1000, 9000} {
			for round := range r.Rounds {
				c.Points = append(c.Points, Point{X: x, Round: round, Value: f(x, round)})
			}
		}
		r.Curves = append(r.Curves, c)
	}
	return r
}

func TestGrowth(t *testing.T) {
	got := markdown(t, grown())
	for panel, want := range map[string]string{
		"flat": "| **growth** | flat |", "grows": "| **growth** | **× 9.99 (9.99–9.99) at 9,000** |", "wild": "| **growth** | **grows**, noisy |", "torn": "| **growth** | noisy |",
	} {
		_, part, _ := strings.Cut(got, fmt.Sprintf("### %s\n", panel))
		if part, _, _ = strings.Cut(part, "\n\n*"); !strings.Contains(part, want) {
			t.Errorf("%s: no %q in %s", panel, want, part)
		}
	}
	if plots := grown().Plots(); len(plots) != 1 || !strings.Contains(string(plots["0001-01-01-growth.svg"]), "connections") {
		t.Errorf("%d plots", len(plots))
	}
}

func TestMerge(t *testing.T) {
	r, more := sample(), grown()
	more.Steps = []Step{{Name: "t_policy", Benchmark: "BenchmarkRequest", Nanoseconds: []float64{100, 110, 120}, Allocations: 0}}
	more.Versions, more.Command = map[string]string{"egret": "abc", "goproxy": "v2"}, "go run ./bench growth"
	r.Merge(more)
	more.Curves, more.Steps = nil, nil
	r.Merge(more)
	got := markdown(t, r)
	for _, want := range []string{"### grows", "| t_policy |  | 110ns (105ns–115ns) | 0 |", "* version of goproxy: v1.9.2 and v2\n", "* version of egret: abc", "`go run ./bench run && go run ./bench growth && go run ./bench growth`", "| steady | **1.50**"} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q", want)
		}
	}
	if got := len(r.Plots()); got != 3 {
		t.Errorf("%d plots, want 3", got)
	}
}

// TestOwnSettingsAreNoPeers: egret in another setting is shown, and nothing is divided
// by it.
func TestOwnSettingsAreNoPeers(t *testing.T) {
	r := sample()
	for _, w := range r.Windows {
		if w.Target == Egret {
			w.Target = "egret-sidecar"
			r.Windows = append(r.Windows, w)
		}
	}
	got := markdown(t, r)
	if strings.Contains(got, "÷ egret-sidecar") || strings.Contains(got, "than egret-sidecar") {
		t.Error("egret is compared with itself")
	}
	if !strings.Contains(got, "| steady | egret-sidecar |") {
		t.Error("the other setting is not shown")
	}
}
