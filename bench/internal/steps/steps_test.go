// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steps

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRead(t *testing.T) {
	got := Read(strings.NewReader(`goos: linux
pkg: github.com/egret-proxy/egret/policy
BenchmarkRequest/policies=1000-2         	 5000000	       231.5 ns/op	       0 B/op	       0 allocs/op
BenchmarkRequest/policies=1000-2         	 5000000	       240 ns/op	       0 B/op	       0 allocs/op
BenchmarkLookup 	 100	 10000 ns/op	 9000 p50-ns	 16 B/op	 2 allocs/op
BenchmarkWorking
Benchmark results follow here today
PASS
`))
	want := []Line{
		{"BenchmarkRequest/policies=1000", map[string]float64{"ns/op": 231.5, "B/op": 0, "allocs/op": 0}},
		{"BenchmarkRequest/policies=1000", map[string]float64{"ns/op": 240, "B/op": 0, "allocs/op": 0}},
		{"BenchmarkLookup", map[string]float64{"ns/op": 10000, "p50-ns": 9000, "B/op": 16, "allocs/op": 2}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	s := Step{Name: "t_policy", Package: "./policy", Benchmark: "BenchmarkRequest/policies=1000"}.report(got[:2])
	if d := cmp.Diff([]float64{231.5, 240}, s.Nanoseconds); d != "" {
		t.Error(d)
	}
}

func TestPatterns(t *testing.T) {
	list := []Step{
		{Package: "./a", Benchmark: "BenchmarkX"}, {Package: "./b", Benchmark: "BenchmarkY"}, {Package: "./a", Benchmark: "BenchmarkZ"},
		{Package: "./a", Benchmark: "BenchmarkP/n=1"}, {Package: "./a", Benchmark: "BenchmarkP/n=1.5"},
	}
	want := []string{"^(BenchmarkX|BenchmarkZ)$", `^BenchmarkP$/^(n=1|n=1\.5)$`}
	if d := cmp.Diff(want, patterns(list, "./a")); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"./a", "./b"}, packages(list)); d != "" {
		t.Error(d)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ js, err string }{
		{`[{"step": "s", "package": "./p", "benchmark": "BenchmarkX"}]`, ""},
		{`[{"step": "s", "package": "./p", "benchmark": "TestX"}]`, "steps[0]"},
		{`[{"step": "s", "what": 1}]`, "unknown field"},
	} {
		if _, err := Parse([]byte(c.js)); (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.js, err, c.err)
		}
	}
}
