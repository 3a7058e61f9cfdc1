// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/hist"
	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/stats"
)

// window is one second in which requests cost the proxy cpu each.
func window(round int, name, target string, requests int64, cpu time.Duration) Window {
	return Window{Round: round, Load: name, Target: target, Result: load.Result{
		Elapsed: time.Second, Requests: requests, Bytes: requests * 1024,
		CPU:     map[string]time.Duration{"proxy": time.Duration(requests) * cpu, "origin": 100 * time.Millisecond},
		Latency: hist.Summary{Count: uint64(requests), P50: 100*time.Microsecond + 10*cpu, P99: time.Millisecond + 40*cpu},
		Machine: host.Usage{Busy: 1500 * time.Millisecond, Total: 2 * time.Second},
	}}
}

// sample is a run on a machine that becomes slower from round to round, which ratios of
// one round do not show, and whose load "wild" is all noise.
func sample() *Report {
	r := &Report{
		Date: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC), Command: "go run ./bench run", Rounds: 4, Window: time.Second, Grants: 1000,
		Machine: host.Machine{Cores: 2, CPU: "a CPU", OS: "linux"}, Versions: map[string]string{"goproxy": "v1.9.2"},
		Loads: []Load{{Name: "steady", Bytes: 1024}, {Name: "wild", Bytes: 1024}, {Name: "big", Bytes: 1 << 20}, {Name: "paced", Bytes: 1024, Rate: true}},
	}
	for round := range r.Rounds {
		wild := []int{1, 9, 2, 30}[round]
		for _, l := range r.Loads {
			slow, factor := round+1, 3
			if l.Rate {
				slow = 1
			}
			if l.Name == "wild" {
				factor = 2 * wild
			}
			r.Windows = append(r.Windows,
				window(round, l.Name, Direct, int64(4000/slow), 0),
				window(round, l.Name, "goproxy", int64(2000/slow), 100*time.Duration(slow)*time.Microsecond),
				window(round, l.Name, Egret, int64(1000/slow), time.Duration(50*slow*factor)*time.Microsecond))
		}
	}
	return r
}

func markdown(t *testing.T, r *Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Markdown(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestMarkdown(t *testing.T) {
	got := markdown(t, sample())
	for _, want := range []string{
		"# What egret costs, 2026-11-22\n",
		"**The machine was not quiet: others used 62 % of it meanwhile.**",
		"| load | ÷ goproxy |\n|---|---|\n| steady | **1.50** (1.50–1.50) |\n| wild | noisy |\n| big | **1.50** (1.50–1.50) |\n",
		"| load | ÷ direct | ÷ goproxy |\n|---|---|---|\n| steady | **0.25** (0.25–0.25) | **0.50** (0.50–0.50) |\n",
		"* egret needs more CPU than goproxy: steady (+50 %); big (+50 %)\n",
		"* no difference to goproxy that these rounds could show: wild\n",
		"| steady | egret | 416/s (312–625) | 375µs (263µs–488µs) |",
		"| steady | direct | 1666/s (1250–2500) | – | 100µs (100µs–100µs) | 1ms (1ms–1ms) |\n",
		"| paced | direct | 100µs (100µs–100µs) | 1ms (1ms–1ms) | | |\n" +
			"| paced | goproxy | **1ms** (1ms–1ms) | **4ms** (4ms–4ms) | **1.50** (1.50–1.50) | **1.50** (1.50–1.50) |\n" +
			"| paced | egret | **1.5ms** (1.5ms–1.5ms) | **6ms** (6ms–6ms) | | |\n",
		"* machine: 2 cores, a CPU, linux",
		"* CPU that others used meanwhile: 6",
		"* version of goproxy: v1.9.2\n",
		"* 4 rounds, interleaved, windows of 1s; requests that failed: 0\n* command: `go run ./bench run`\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q", want)
		}
	}
	if strings.Contains(strings.Split(got, "## Added")[0], "paced") {
		t.Error("a fixed rate has no ratio of speed")
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestErrorsAreShown(t *testing.T) {
	r := sample()
	r.Windows[3].Result.Errors, r.Windows[3].Result.Error = 2, "status 403"
	if got := markdown(t, r); !strings.Contains(got, `requests that failed: 2 (first: "status 403")`) {
		t.Error("failed requests are not told")
	}
}

func TestTexts(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{ratioText(stats.Spread{}), "–"},
		{ratioText(stats.Of([]float64{1, 1})), "noisy"},
		{ratioText(stats.Of([]float64{1, 2, 3})), "noisy"},
		{ratioText(stats.Of([]float64{2, 2, 2})), "**2.00** (2.00–2.00)"},
		{addedText(stats.Of([]float64{-1e6, 1e6, 5e6})), "noisy"},
		{addedText(stats.Of([]float64{1e6, 1.1e6, 1.2e6})), "**1.1ms** (1.05ms–1.15ms)"},
		{durationText(stats.Spread{}), "–"},
		{duration(0), "0s"},
		{duration(-123456), "-123µs"},
		{duration(12), "12ns"},
		{duration(1.2345e9), "1.23s"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
}
