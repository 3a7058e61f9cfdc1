// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"flag"
	"strings"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/steps"
)

// stepsJSON names the Go benchmark of each step of a request.
//
//go:embed steps.json
var stepsJSON []byte

// stepsVerb runs the benchmarks of the steps of a request. It must be called in the
// module.
func stepsVerb(ctx context.Context, args []string, std streams) error {
	o := steps.Options{Progress: std.err}
	f := flag.NewFlagSet("steps", flag.ContinueOnError)
	f.SetOutput(std.err)
	f.DurationVar(&o.Time, "benchtime", 200*time.Millisecond, "how long each benchmark runs")
	f.IntVar(&o.Count, "count", 5, "how often each is run")
	out := f.String("out", "bench/results/tmp", "`folder` for NAME.md and NAME.json")
	name := f.String("name", time.Now().UTC().Format(time.DateOnly)+"-steps", "`name` of the files")
	if err := f.Parse(args); err != nil {
		return err
	}
	list, err := steps.Parse(stepsJSON)
	if err != nil {
		return err
	}
	rep := &report.Report{Name: *name, Date: time.Now(), Machine: host.Describe(), Rounds: o.Count, Versions: versions(ctx, ""),
		Command: strings.TrimSpace("go run ./bench steps " + strings.Join(args, " "))}
	if rep.Steps, err = steps.Run(ctx, o, list); err != nil {
		return err
	}
	rep.LoadEnd = host.Describe().Load
	return save(rep, *out, std.out)
}
