// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package compare

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/report"
)

// run is a run in which each request cost egret and a peer these microseconds, by round.
func run(egret, peer []int) *report.Report {
	r := &report.Report{Rounds: len(egret), Loads: []report.Load{{Name: "h1", Bytes: 1024}}}
	add := func(target string, round, cost int) {
		r.Windows = append(r.Windows, report.Window{Round: round, Load: "h1", Target: target, Result: load.Result{
			Elapsed: time.Second, Requests: int64(100_000 / cost),
			CPU: map[string]time.Duration{"proxy": time.Duration(100_000/cost*cost) * time.Microsecond},
		}})
	}
	for round, cost := range egret {
		add("egret", round, cost)
		if peer != nil {
			add("peer", round, peer[round])
		}
	}
	return r
}

func TestRegressed(t *testing.T) {
	quiet, same := []int{100, 101, 102, 103, 104}, []int{200, 201, 202, 203, 204}
	for _, c := range []struct {
		name          string
		before, after *report.Report
		want          bool
	}{
		{"the same", run(quiet, same), run(quiet, same), false},
		{"a quarter more", run(quiet, same), run([]int{125, 126, 127, 128, 129}, same), true},
		{"a quarter more, no peer", run(quiet, nil), run([]int{125, 126, 127, 128, 129}, nil), true},
		{"a quarter less", run(quiet, same), run([]int{75, 76, 77, 78, 79}, same), false},
		{"below the limit", run(quiet, same), run([]int{106, 107, 108, 109, 110}, same), false},
		{"a slower machine", run(quiet, same), run([]int{150, 151, 152, 153, 154}, []int{300, 301, 303, 304, 306}), false},
		{"chance", run([]int{90, 100, 110, 140, 150}, same), run([]int{95, 120, 130, 145, 155}, same), false},
		{"too few rounds", run(quiet[:3], same[:3]), run([]int{150, 151, 152}, same[:3]), false},
	} {
		if got := Regressed(Runs(c.before, c.after), 0.1); len(got) > 0 != c.want {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

func TestWrite(t *testing.T) {
	old := run([]int{100, 100, 100, 100, 100}, []int{200, 200, 200, 200, 200})
	now := run([]int{80, 80, 80, 80, 80}, []int{200, 200, 200, 200, 200})
	var b strings.Builder
	if err := Write(&b, Runs(old, now)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CPU ", "-20.0% (p=0.008 n=5+5)", "÷ peer", "SPEED", "1,000", "1,250", "+25.0%", "100µs ±0%", "80µs ±0%"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("missing %q in\n%s", want, b.String())
		}
	}
	b.Reset()
	if err := Write(&b, Runs(run([]int{100, 101}, nil), run([]int{200, 201}, nil))); err != nil || !strings.Contains(b.String(), "~ (n=2+2 is too few to show any)") {
		t.Errorf("%v: %s", err, b.String())
	}
	b.Reset()
	if err := Write(&b, Runs(old, &report.Report{})); err != nil || !strings.Contains(b.String(), "nothing in common") {
		t.Errorf("%v: %s", err, b.String())
	}
}

// TestFigures: what is no window is compared too, and speed is better when higher.
func TestFigures(t *testing.T) {
	with := func(memory, speed float64) *report.Report {
		r := run([]int{100, 100, 100, 100, 100}, nil)
		for round := range r.Rounds {
			r.Figures = append(r.Figures,
				report.Figure{Name: "memory", Target: "egret", Round: round, Value: memory, Unit: report.Octets},
				report.Figure{Name: "echoes", Target: "egret", Round: round, Value: speed, Unit: report.Count, Higher: true})
		}
		return r
	}
	got := Regressed(Runs(with(1000, 50), with(1500, 60)), 0.1)
	if want := []string{"memory: value (+50.0%)"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	got = Regressed(Runs(with(1000, 50), with(800, 30)), 0.1)
	if want := []string{"echoes: value (-40.0%)"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
