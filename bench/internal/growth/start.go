// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/egret-proxy/egret/bench/internal/host"
	"github.com/egret-proxy/egret/bench/internal/report"
)

// cpuOf is the CPU time that a process uses while f runs.
func cpuOf(pid int, f func() error) (time.Duration, error) {
	before, err := host.ProcessCPU(pid)
	if err != nil {
		return 0, err
	}
	if err := f(); err != nil {
		return 0, err
	}
	after, err := host.ProcessCPU(pid)
	return after - before, err
}

// start: from nothing to ready, with more and more access policies; memory then; and the
// size of the program.
func start(ctx context.Context, o Options, w *world, rep *report.Report) error {
	ready := &report.Curve{
		Panel: "start", Name: "time to ready", X: "access policies", Y: "from the start of the program until /readyz", Unit: report.Nanoseconds,
		Why: "policy is read, checked and compiled before anything is served",
	}
	spent := &report.Curve{Panel: "start", Name: "its CPU time", X: ready.X, Y: ready.Y, Unit: report.Nanoseconds}
	memory := &report.Curve{
		Panel: "memory at start", Name: "resident", X: "access policies", Y: "memory when ready", Unit: report.Octets,
		Why: "compiled policy, and what reading it took: egret gives that back right after",
	}
	for round := range o.Rounds {
		for _, n := range o.numbers(1, 1000, 10000, 50000) {
			d := w.documents(1)
			d.grants(n)
			nd, err := w.start(ctx, setting{name: fmt.Sprintf("%d-%d", n, round), policies: d.texts()})
			if err != nil {
				return err
			}
			rss, err := host.Resident(nd.program.PID())
			cpu, cpuErr := host.ProcessCPU(nd.program.PID())
			w.drop(nd)
			if err := errors.Join(err, cpuErr); err != nil {
				return err
			}
			o.say("start: round %d of %d, %d policies: ready after %v with %d KiB", round+1, o.Rounds, n, nd.ready, rss>>10)
			ready.Points = append(ready.Points, report.Point{X: float64(n), Round: round, Value: float64(nd.ready)})
			spent.Points = append(spent.Points, report.Point{X: float64(n), Round: round, Value: float64(cpu)})
			memory.Points = append(memory.Points, report.Point{X: float64(n), Round: round, Value: float64(rss)})
		}
	}
	add(rep, ready, spent, memory)
	goalFigures(rep, ready, memory)
	return size(o, rep)
}

// goalFigures repeats the places of the curves that goals are about as figures.
func goalFigures(rep *report.Report, ready, memory *report.Curve) {
	for _, c := range []struct {
		name  string
		curve *report.Curve
	}{{"cold start to ready, 1,000 grants", ready}, {"resident memory at start, 1,000 grants", memory}} {
		for _, p := range c.curve.Points {
			if p.X == 1000 {
				rep.Figures = append(rep.Figures, report.Figure{Name: c.name, Target: report.Egret, Round: p.Round, Value: p.Value, Unit: c.curve.Unit})
			}
		}
	}
}

func size(o Options, rep *report.Report) error {
	info, err := os.Stat(filepath.Join(o.Bin, "egret"))
	if err != nil {
		return err
	}
	figure(rep, "size of the program", float64(info.Size()), report.Octets)
	return nil
}
