// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
)

// idleMemory is the figure of loads that hold connections.
const idleMemory = "memory of an idle client connection"

// survey goes through all windows. One that fails in the first round ends the run, since
// something is not set as it should be; later it is kept as what it is, an error.
func survey(ctx context.Context, r *rig.Rig, all []visit, rep *report.Report, p *progress) error {
	for _, v := range all {
		p.next(v)
		w, err := v.measure(ctx, r)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil && v.round == 0:
			return fmt.Errorf("%s, %s: %w", v.Name, v.target, err)
		case err != nil:
			p.say("%s, %s: %v", v.Name, v.target, err)
			w.Result.Errors, w.Result.Error = w.Result.Errors+1, err.Error()
		}
		w.Round = v.round
		rep.Windows = append(rep.Windows, w)
		if m := w.Result.Memory["proxy"]; w.Result.Held > 0 {
			rep.Figures = append(rep.Figures, report.Figure{Name: idleMemory, Load: v.Name, Target: v.target, Round: v.round,
				Value: float64(m.After-m.Before) / float64(w.Result.Held), Unit: report.Octets})
		}
	}
	return nil
}

// measure makes one window. Where memory is what counts the target is started anew, as
// it would else fill what an earlier load has left.
func (v visit) measure(ctx context.Context, r *rig.Rig) (report.Window, error) {
	ctx, cancel := context.WithTimeout(ctx, v.most())
	defer cancel()
	if v.spec.Hold {
		if err := r.Restart(ctx, v.target); err != nil {
			return report.Window{Load: v.Name, Target: v.target}, err
		}
	}
	return oneWindow(ctx, r, v.scenario, v.target)
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

// progress tells how far a run is, and about how long the rest takes.
type progress struct {
	to          io.Writer
	rounds      int
	began, told time.Time
	total, done time.Duration // as planned
	now         time.Duration // of that, what is under way
}

// tellEvery is how often progress is told.
const tellEvery = 10 * time.Second

func newProgress(to io.Writer, all []visit, rounds int) *progress {
	p := &progress{to: to, rounds: rounds, began: time.Now()}
	for _, v := range all {
		p.total += v.lasts()
	}
	p.say("%d windows, about %s", len(all), p.total.Round(time.Second))
	return p
}

func (p *progress) say(format string, args ...any) {
	_, _ = fmt.Fprintf(p.to, format+"\n", args...)
}

// next says which window begins, if nothing has been said for a while.
func (p *progress) next(v visit) {
	p.done += p.now
	p.now = v.lasts()
	if time.Since(p.told) < tellEvery {
		return
	}
	p.told = time.Now()
	p.say("round %d of %d, %s: about %s left", v.round+1, p.rounds, v.Name, p.left().Round(time.Second))
}

// left is what the plan says of the rest, by how well it has said so far.
func (p *progress) left() time.Duration {
	rest := p.total - p.done
	if p.done < tellEvery {
		return rest
	}
	return time.Duration(float64(rest) * float64(time.Since(p.began)) / float64(p.done))
}
