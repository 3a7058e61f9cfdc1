// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"debug/buildinfo"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
)

// options are what a run can be told.
type options struct {
	grants, rounds int
	window, warmup time.Duration
	rate           float64
	body           int64
	only           string
	out            string
	bin            string
	progress       io.Writer
}

// runVerb measures everything and writes the report.
func runVerb(ctx context.Context, args []string, std streams) error {
	o := options{progress: std.err}
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(std.err)
	f.IntVar(&o.grants, "grants", 1000, "access policies that egret has loaded")
	f.IntVar(&o.rounds, "rounds", 5, "how often each load is measured for each target")
	f.DurationVar(&o.window, "window", 1500*time.Millisecond, "how long a measurement lasts")
	f.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "load before each measurement")
	f.Float64Var(&o.rate, "rate", 300, "requests/s of the open loops")
	f.Int64Var(&o.body, "body", 1024, "bytes of an answer")
	f.StringVar(&o.only, "only", "", "measure only loads whose name matches this `regexp`")
	f.StringVar(&o.out, "out", "bench/results/tmp", "`folder` for DATE.md and DATE.json")
	f.StringVar(&o.bin, "bin", "", "`folder` with the programs egret, goproxy and bench; default: build them")
	if err := f.Parse(args); err != nil {
		return err
	}
	plan, err := o.plan()
	if err != nil {
		return err
	}
	held, err := goals()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "egret-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	rep := &report.Report{Date: time.Now(), Machine: host.Describe(), Grants: o.grants, Rounds: o.rounds, Window: o.window, Goals: held,
		Command: strings.TrimSpace("go run ./bench run " + strings.Join(args, " "))}
	if err := o.measure(ctx, dir, plan, rep); err != nil {
		return err
	}
	rep.LoadEnd = host.Describe().Load
	return save(rep, o.out, std.out)
}

// scenario is one kind of load with what the report says of it.
type scenario struct {
	report.Load
	spec load.Spec
}

// plan lists the loads.
func (o options) plan() ([]scenario, error) {
	only, err := regexp.Compile(o.only)
	if err != nil {
		return nil, err
	}
	const large = 16 << 20
	all := []struct {
		name string
		spec load.Spec
	}{
		{"h1, 16 connections", load.Spec{Proto: load.H1, Conns: 16}},
		{"h2, 16 connections", load.Spec{Proto: load.H2, Conns: 16}},
		{"h2, 100 streams on one connection", load.Spec{Proto: load.H2, Conns: 1, Streams: 100}},
		{"h1, a new connection for each request, 4 at a time", load.Spec{Proto: load.H1, Conns: 4, Fresh: true}},
		{"h1, downloads of 16 MiB, 2 at a time", load.Spec{Proto: load.H1, Conns: 2, Bytes: large}},
		{"h2, downloads of 16 MiB, 2 at a time", load.Spec{Proto: load.H2, Conns: 2, Bytes: large}},
		{fmt.Sprintf("h1, %g requests/s", o.rate), load.Spec{Proto: load.H1, Conns: 16, Rate: o.rate}},
		{fmt.Sprintf("h2, %g requests/s", o.rate), load.Spec{Proto: load.H2, Conns: 16, Rate: o.rate}},
	}
	var out []scenario
	for _, a := range all {
		if !only.MatchString(a.name) {
			continue
		}
		if a.spec.Bytes == 0 {
			a.spec.Bytes = o.body
		}
		a.spec.Warmup, a.spec.Window = o.warmup, o.window
		out = append(out, scenario{report.Load{Name: a.name, Bytes: a.spec.Bytes, Rate: a.spec.Rate > 0}, a.spec})
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("-only %q matches no load", o.only)
	}
	return out, nil
}

// measure starts the processes and goes through the rounds.
func (o options) measure(ctx context.Context, dir string, plan []scenario, rep *report.Report) error {
	bin, err := programs(ctx, o.bin, dir, o.progress)
	if err != nil {
		return err
	}
	rep.Versions = versions(ctx, bin)
	r, err := rig.Start(ctx, rig.Options{Dir: dir, Bin: bin, Grants: o.grants})
	if err != nil {
		return err
	}
	defer r.Close()
	for _, s := range plan {
		rep.Loads = append(rep.Loads, s.Load)
	}
	for round := range o.rounds {
		_, _ = fmt.Fprintf(o.progress, "round %d of %d\n", round+1, o.rounds)
		if err := oneRound(ctx, r, plan, round, rep); err != nil {
			return err
		}
	}
	return nil
}

// programs returns the folder with the programs: bin, or dir after they were built there.
func programs(ctx context.Context, bin, dir string, progress io.Writer) (string, error) {
	if bin != "" {
		return filepath.Abs(bin)
	}
	_, _ = fmt.Fprintln(progress, "building")
	return dir, rig.Build(ctx, dir, rig.Release())
}

// oneRound measures each load for each target, one right after the other. Rounds start
// with different targets, so that none always comes first.
func oneRound(ctx context.Context, r *rig.Rig, plan []scenario, round int, rep *report.Report) error {
	targets := []string{rig.Direct, rig.Goproxy, rig.Egret}
	for _, s := range plan {
		for i := range targets {
			target := targets[(i+round)%len(targets)]
			w, err := oneWindow(ctx, r, s, target)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", s.Name, target, err)
			}
			w.Round = round
			rep.Windows = append(rep.Windows, w)
		}
	}
	return nil
}

func oneWindow(ctx context.Context, r *rig.Rig, s scenario, target string) (report.Window, error) {
	w := report.Window{Load: s.Name, Target: target}
	before, err := r.Counts(ctx)
	if err != nil {
		return w, err
	}
	if w.Result, err = r.Load(ctx, r.Aim(s.spec, target)); err != nil {
		return w, err
	}
	after, err := r.Counts(ctx)
	w.Origin = after.Sub(before)
	return w, err
}

// versions reads from the programs what they were built of.
func versions(ctx context.Context, bin string) map[string]string {
	out := map[string]string{"go": runtime.Version()}
	if info, err := buildinfo.ReadFile(filepath.Join(bin, "goproxy")); err == nil {
		for _, d := range info.Deps {
			if d.Path == "github.com/elazarl/goproxy" {
				out["goproxy"] = d.Version
			}
		}
	}
	if info, err := buildinfo.ReadFile(filepath.Join(bin, "egret")); err == nil {
		out["egret"] = info.Main.Version
	}
	if out["egret"] == "(devel)" || bin == "" { // built without version control: say what is checked out, as make does
		if described, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
			out["egret"] = strings.TrimSpace(string(described))
		}
	}
	return out
}
