// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package growth

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"sync"
	"time"

	"github.com/egret-proxy/egret/bench/internal/report"
)

// Options of a run.
type Options struct {
	Dir      string // scratch folder
	Bin      string // folder with egret and bench
	Rounds   int
	Window   time.Duration
	Most     int // no number is larger, so that a short run can be made; 0: no bound
	Only     *regexp.Regexp
	Progress io.Writer
}

// together is how many requests are under way at a time where that is not what grows.
const together = 16

// panel measures one thing that grows and adds what it finds to the report.
type panel struct {
	name    string
	measure func(context.Context, Options, *world, *report.Report) error
}

func panels() []panel {
	return []panel{{"start", start}, {"connections", connections}, {"policies", policies}, {"destinations", destinations}, {"workloads", workloads}}
}

// Run measures the panels that Only names, each with processes of its own.
func Run(ctx context.Context, o Options, rep *report.Report) error {
	matched := false
	for _, p := range panels() {
		if !o.Only.MatchString(p.name) {
			continue
		}
		matched = true
		if err := o.one(ctx, p, rep); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	Pooled(rep)
	if !matched {
		return fmt.Errorf("-only %q matches nothing; there are start, connections, policies, destinations, workloads", o.Only)
	}
	return nil
}

func (o Options) one(ctx context.Context, p panel, rep *report.Report) error {
	dir := filepath.Join(o.Dir, p.name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	began := time.Now()
	w, err := newWorld(ctx, dir, o.Bin)
	if err != nil {
		return err
	}
	defer w.close()
	if err := p.measure(ctx, o, w, rep); err != nil {
		return err
	}
	o.say("%s: done in %s", p.name, time.Since(began).Round(time.Second))
	return nil
}

func (o Options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.Progress, format+"\n", args...)
}

// numbers are those that are not above the bound of the run.
func (o Options) numbers(all ...int) []int {
	var out []int
	for _, n := range all {
		if o.Most == 0 || n <= o.Most {
			out = append(out, n)
		}
	}
	return out
}

// fleet is connections to one egret, and what opening them cost it.
type fleet struct {
	conns []*conn
	cpu   time.Duration // for each connection with its first request
}

func (f *fleet) close() {
	for _, c := range f.conns {
		c.close()
	}
}

// caller is who opens a connection, and to which host.
type caller struct{ host, token string }

// open opens connections, some at a time, and makes one request on each.
func (w *world) open(ctx context.Context, n *node, callers []caller) (*fleet, error) {
	f := &fleet{conns: make([]*conn, len(callers))}
	spent, err := cpuOf(n.program.PID(), func() error {
		return parallel(ctx, len(callers), func(ctx context.Context, i int) error {
			c, err := w.dial(ctx, n.address, callers[i].host, callers[i].token)
			if err != nil {
				return err
			}
			f.conns[i] = c
			return c.get()
		})
	})
	f.cpu = spent / time.Duration(len(callers))
	return f, err
}

// parallel calls f for each number, a few at a time, until one fails.
func parallel(ctx context.Context, n int, f func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var all sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		all.Go(func() {
			for i := range next {
				if err := f(ctx, i); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	return context.Cause(ctx)
}

// same are n times the one caller of a host.
func same(n int, host, token string) []caller {
	out := make([]caller, n)
	for i := range out {
		out[i] = caller{host, token}
	}
	return out
}

// Figures of memory for each connection.
const (
	perConnection = "memory of an open connection, of 9,000"
	perWorkload   = "memory of a workload: its connection and its upstream connection, of 9,000"
	perUpstream   = "memory of a pooled upstream connection, with what is kept for its workload"
)

// Pooled adds what an upstream connection costs, once: what a workload has more than a
// connection, where both were measured, in one run or in several that are put together.
func Pooled(rep *report.Report) {
	of := map[string]float64{}
	for _, f := range rep.Figures {
		of[f.Name] = f.Value
	}
	if of[perConnection] > 0 && of[perWorkload] > 0 && of[perUpstream] == 0 {
		figure(rep, perUpstream, of[perWorkload]-of[perConnection], report.Octets)
	}
}

func cpuCurve(panel, name, x string) *report.Curve {
	return &report.Curve{Panel: panel, Name: name, X: x, Y: "CPU of egret for each request", Unit: report.Nanoseconds, Flat: true}
}

// add puts curves that have points into the report.
func add(rep *report.Report, curves ...*report.Curve) {
	for _, c := range curves {
		if len(c.Points) > 0 {
			rep.Curves = append(rep.Curves, *c)
		}
	}
}

func figure(rep *report.Report, name string, value float64, unit report.Unit) {
	rep.Figures = append(rep.Figures, report.Figure{Name: name, Target: report.Egret, Value: value, Unit: unit})
}
