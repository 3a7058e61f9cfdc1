// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"debug/buildinfo"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
	"github.com/egret-proxy/egret/bench/peers"
)

// options are what a run can be told.
type options struct {
	grants, rounds int
	window, warmup time.Duration
	rate           float64
	body           int64
	full           bool
	only, targets  string
	out, name, bin string
	progress       io.Writer
}

// quick are the targets of a run that is not asked for others.
const quick = rig.Direct + "," + rig.Nginx + "," + rig.Goproxy + "," + rig.Egret

func (o *options) parse(args []string) error {
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(o.progress)
	f.IntVar(&o.grants, "grants", 1000, "access policies that egret has loaded")
	f.IntVar(&o.rounds, "rounds", 5, "how often each load is measured for each target")
	f.DurationVar(&o.window, "window", 1500*time.Millisecond, "how long a measurement lasts")
	f.DurationVar(&o.warmup, "warmup", 300*time.Millisecond, "load before each measurement")
	f.Float64Var(&o.rate, "rate", 300, "requests/s of the open loops")
	f.Int64Var(&o.body, "body", 1024, "bytes of an answer")
	f.BoolVar(&o.full, "full", false, "all loads and all targets; takes about three quarters of an hour")
	f.StringVar(&o.only, "only", "", "measure only loads whose name matches this `regexp`")
	f.StringVar(&o.targets, "targets", "", "`list` of "+strings.Join(rig.Names(), ",")+"; default: "+quick+", or all with -full")
	f.StringVar(&o.out, "out", "bench/results/tmp", "`folder` for NAME.md, NAME.json and plots")
	f.StringVar(&o.name, "name", "", "`name` of the files; default: the date")
	f.StringVar(&o.bin, "bin", "", "`folder` with the programs egret and goproxy; default: build them")
	return f.Parse(args)
}

// runVerb measures everything and writes the report.
func runVerb(ctx context.Context, args []string, std streams) error {
	o := options{progress: std.err}
	if err := o.parse(args); err != nil {
		return err
	}
	plan, err := o.plan()
	if err != nil {
		return err
	}
	targets, err := o.choose()
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
	rep := &report.Report{Name: o.name, Date: time.Now(), Machine: host.Describe(), Grants: o.grants, Rounds: o.rounds, Window: o.window, Goals: held,
		Command: strings.TrimSpace("go run ./bench run " + strings.Join(args, " "))}
	if rep.Targets, err = o.describe(targets); err != nil {
		return err
	}
	if err := o.measure(ctx, dir, plan, rep); err != nil {
		return err
	}
	rep.LoadEnd = host.Describe().Load
	return save(rep, o.out, std.out)
}

// choose returns the targets that are asked for and that this machine has, in the order
// of a round, and says how those that are missing are installed.
func (o options) choose() ([]string, error) {
	asked := strings.Split(cmp.Or(o.targets, quick), ",")
	if o.full && o.targets == "" {
		asked = rig.Names()
	}
	for _, t := range asked {
		if !slices.Contains(rig.Names(), t) {
			return nil, fmt.Errorf("-targets: %q is not one of %s", t, strings.Join(rig.Names(), ","))
		}
	}
	var out []string
	for _, t := range rig.Names() {
		if !slices.Contains(asked, t) {
			continue
		}
		if missing := rig.Missing(t); len(missing) > 0 {
			_, _ = fmt.Fprintf(o.progress, "%s is left out: there is no program %s; on Debian, make bench-packages installs it\n", t, strings.Join(missing, ", "))
			continue
		}
		out = append(out, t)
	}
	return out, nil
}

// describe says what the targets are and how they are set.
func (o options) describe(targets []string) ([]report.Target, error) {
	var out []report.Target
	for _, name := range targets {
		about, files := rig.About(name)
		if name == rig.Egret {
			about = fmt.Sprintf("%d access policies; %s", o.grants, about)
		}
		t := report.Target{Name: name, Setting: about}
		for _, file := range files {
			text, err := peers.Text(file)
			if err != nil {
				return nil, err
			}
			t.Configs = append(t.Configs, report.Config{Name: file, Text: text})
		}
		out = append(out, t)
	}
	return out, nil
}

// measure starts the processes and goes through the rounds.
func (o options) measure(ctx context.Context, dir string, plan []scenario, rep *report.Report) error {
	bin, err := programs(ctx, o.bin, dir, o.progress)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var targets []string
	for _, t := range rep.Targets {
		targets = append(targets, t.Name)
	}
	for _, s := range plan {
		rep.Loads = append(rep.Loads, s.Load)
	}
	rep.Versions = versions(ctx, bin, targets...)
	r, err := rig.Start(ctx, rig.Options{Dir: dir, Bin: bin, Bench: self, Grants: o.grants, Targets: targets})
	if err != nil {
		return err
	}
	defer r.Close()
	all := visits(plan, targets, o.rounds)
	return survey(ctx, r, all, rep, newProgress(o.progress, all, o.rounds))
}

// programs returns the folder with the programs: bin, or dir after they were built there.
func programs(ctx context.Context, bin, dir string, progress io.Writer) (string, error) {
	if bin != "" {
		return filepath.Abs(bin)
	}
	_, _ = fmt.Fprintln(progress, "building")
	return dir, rig.Build(ctx, dir, rig.Release())
}

// versions reads from the programs what they were built of, or asks them.
func versions(ctx context.Context, bin string, targets ...string) map[string]string {
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
	for _, t := range targets {
		if v := rig.Version(ctx, t); v != "" {
			out[t] = v
		}
	}
	if out["egret"] == "(devel)" || bin == "" { // built without version control: say what is checked out, as make does
		if described, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
			out["egret"] = strings.TrimSpace(string(described))
		}
	}
	return out
}
