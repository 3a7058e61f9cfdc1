// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package steps runs the Go benchmarks of the parts of a request and reads what they
// print.
package steps

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/report"
)

// Step is one benchmark and what it stands for.
type Step struct {
	Name      string `json:"step"`
	Case      string `json:"case"`
	Package   string `json:"package"`
	Benchmark string `json:"benchmark"` // Benchmark…, with its parts behind slashes
}

// Parse reads the JSON list of steps. Unknown fields and empty ones are refused.
func Parse(js []byte) ([]Step, error) {
	d := json.NewDecoder(bytes.NewReader(js))
	d.DisallowUnknownFields()
	var out []Step
	if err := d.Decode(&out); err != nil {
		return nil, fmt.Errorf("steps: %w", err)
	}
	for i, s := range out {
		if s.Name == "" || s.Package == "" || !strings.HasPrefix(s.Benchmark, "Benchmark") {
			return nil, fmt.Errorf("steps[%d]: step %q, package %q, benchmark %q: none may be empty, and a benchmark's name begins so", i, s.Name, s.Package, s.Benchmark)
		}
	}
	return out, nil
}

// Options of a run.
type Options struct {
	Time     time.Duration // of each benchmark
	Count    int           // how often each is run
	Progress io.Writer
}

// Run runs the benchmarks, package by package, and returns what they showed in the order
// of the list. One that is not there is an error.
func Run(ctx context.Context, o Options, list []Step) ([]report.Step, error) {
	found := map[string][]Line{}
	for _, pkg := range packages(list) {
		_, _ = fmt.Fprintf(o.Progress, "steps: %s\n", pkg)
		for _, pattern := range patterns(list, pkg) {
			lines, err := o.run(ctx, pkg, pattern)
			if err != nil {
				return nil, err
			}
			for _, l := range lines {
				found[pkg+" "+l.Name] = append(found[pkg+" "+l.Name], l)
			}
		}
	}
	out := make([]report.Step, 0, len(list))
	for _, s := range list {
		lines := found[s.Package+" "+s.Benchmark]
		if len(lines) == 0 {
			return nil, fmt.Errorf("%s has no benchmark %q; steps.json names it", s.Package, s.Benchmark)
		}
		out = append(out, s.report(lines))
	}
	return out, nil
}

func (s Step) report(lines []Line) report.Step {
	r := report.Step{Name: s.Name, Case: s.Case, Benchmark: s.Package + " " + s.Benchmark}
	for _, l := range lines {
		r.Nanoseconds = append(r.Nanoseconds, l.Value("ns/op"))
		r.Bytes, r.Allocations = l.Value("B/op"), l.Value("allocs/op")
	}
	return r
}

func packages(list []Step) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s.Package) {
			out = append(out, s.Package)
		}
	}
	return out
}

// patterns are what go test -bench is given for a package: one for the benchmarks
// without parts, and one for each that has parts, because a pattern with slashes must
// match them all.
func patterns(list []Step, pkg string) []string {
	var whole []string
	parts := map[string][]string{}
	for _, s := range list {
		if s.Package != pkg {
			continue
		}
		name, part, has := strings.Cut(s.Benchmark, "/")
		if has {
			parts[name] = append(parts[name], regexp.QuoteMeta(part))
		} else {
			whole = append(whole, name)
		}
	}
	var out []string
	if len(whole) > 0 {
		out = append(out, "^("+strings.Join(whole, "|")+")$")
	}
	for name, list := range parts {
		out = append(out, "^"+name+"$/^("+strings.Join(list, "|")+")$")
	}
	slices.Sort(out)
	return out
}

func (o Options) run(ctx context.Context, pkg, pattern string) ([]Line, error) {
	cmd := exec.CommandContext(ctx, "go", "test", pkg, "-run", "^$", "-bench", pattern, "-benchmem", "-benchtime", o.Time.String(), "-count", strconv.Itoa(o.Count))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return Read(bytes.NewReader(out)), nil
}

// Line is one result: "BenchmarkX/part-2  1000  12.5 ns/op  0 B/op  0 allocs/op".
type Line struct {
	Name   string // without the number of processors
	Values map[string]float64
}

// Value is 0 where the line has none of the unit.
func (l Line) Value(unit string) float64 { return l.Values[unit] }

// Read finds the results in what go test printed. Lines that are none are left out.
func Read(r io.Reader) []Line {
	var out []Line
	for s := bufio.NewScanner(r); s.Scan(); {
		f := strings.Fields(s.Text())
		if len(f) < 4 || !strings.HasPrefix(f[0], "Benchmark") {
			continue
		}
		if _, err := strconv.Atoi(f[1]); err != nil {
			continue
		}
		l := Line{Name: withoutProcs(f[0]), Values: map[string]float64{}}
		for i := 2; i+1 < len(f); i += 2 {
			if v, err := strconv.ParseFloat(f[i], 64); err == nil {
				l.Values[f[i+1]] = v
			}
		}
		out = append(out, l)
	}
	return out
}

// withoutProcs cuts the "-N" that go test adds on N processors.
func withoutProcs(name string) string {
	i := strings.LastIndexByte(name, '-')
	if i < 0 {
		return name
	}
	if _, err := strconv.Atoi(name[i+1:]); err != nil {
		return name
	}
	return name[:i]
}
