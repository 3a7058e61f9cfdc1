// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/growth"
	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/report"
)

// growthVerb measures how cost changes while connections, policies, destinations or
// workloads become many.
func growthVerb(ctx context.Context, args []string, std streams) error {
	o := growth.Options{Progress: std.err}
	var only, out, name string
	f := flag.NewFlagSet("growth", flag.ContinueOnError)
	f.SetOutput(std.err)
	f.IntVar(&o.Rounds, "rounds", 5, "how often each place of a curve is measured")
	f.DurationVar(&o.Window, "window", 800*time.Millisecond, "how long a measurement lasts")
	f.IntVar(&o.Most, "most", 0, "no number is larger than this; default: no bound")
	f.StringVar(&only, "only", "", "measure only what this `regexp` matches of start, connections, policies, destinations, workloads")
	f.StringVar(&o.Bin, "bin", "", "`folder` with the programs egret and bench; default: build them")
	f.StringVar(&out, "out", "bench/results/tmp", "`folder` for NAME.md, NAME.json and a plot")
	f.StringVar(&name, "name", time.Now().UTC().Format(time.DateOnly)+"-growth", "`name` of the files")
	if err := f.Parse(args); err != nil {
		return err
	}
	var err error
	if o.Only, err = regexp.Compile(only); err != nil {
		return err
	}
	if o.Dir, err = os.MkdirTemp("", "egret-growth-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(o.Dir) }()
	if o.Bin, err = programs(ctx, o.Bin, filepath.Join(o.Dir, "bin"), std.err); err != nil {
		return err
	}
	rep := &report.Report{Name: name, Date: time.Now(), Machine: host.Describe(), Rounds: o.Rounds, Versions: versions(ctx, o.Bin),
		Command: strings.TrimSpace("go run ./bench growth " + strings.Join(args, " "))}
	if rep.Goals, err = goals(); err != nil {
		return err
	}
	if err := growth.Run(ctx, o, rep); err != nil {
		return err
	}
	rep.LoadEnd = host.Describe().Load
	return save(rep, out, std.out)
}
