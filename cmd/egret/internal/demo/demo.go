// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package demo tells the whole story on one machine: twins of the SaaS APIs, a SPIFFE
// issuer, egret with the policy of examples/local, the nightly job, and the refusals.
// Nothing in it is pretended: the job is a process of its own, egret is wired as by
// egret run, the twins check what they are sent as the real ones do, and every step is
// held to what it should be.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/egret-proxy/egret/internal/ops"
)

// Options of a run.
type Options struct {
	Stdout  io.Writer
	Color   bool
	Width   int  // of the terminal; 0: lines are not broken
	Verbose bool // show egret's own log
	Version ops.Version
	// Job is the command line of the nightly job.
	Job []string
}

// Demo is the story's world, started.
type Demo struct {
	opt  Options
	dir  string
	say  *teller
	saas *twins
	ids  *identities
	node *runningNode

	callers callers
	bundles bundles // of the node's issuer
}

// Start makes the world: twins, issuer, policy, egret. Close it.
func Start(ctx context.Context, opt Options) (_ *Demo, err error) {
	d := &Demo{opt: opt, say: &teller{w: opt.Stdout, color: opt.Color, width: opt.Width}}
	defer func() {
		if err != nil {
			d.Close()
		}
	}()
	begin := time.Now()
	if d.dir, err = os.MkdirTemp("", "egret-demo-"); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{d.probe, d.startTwins, d.writeFiles, d.startEgret} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("starting the demo: %w", err)
		}
	}
	d.say.head(time.Since(begin))
	return d, nil
}

// Close ends everything and removes the folder.
func (d *Demo) Close() {
	if d.ids != nil {
		d.ids.close()
	}
	if d.node != nil {
		_ = d.node.Stop() // the story has told what went wrong
	}
	if d.saas != nil {
		d.saas.close()
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}

// errStory: a step was not as told.
var errStory = errors.New("a step of the demo was not as it should be")

// Story runs the job and the refusals. It fails unless every step was as told.
func (d *Demo) Story(ctx context.Context) error {
	begin := time.Now()
	err := d.tell(ctx, d.world, d.job, d.refusals, d.revocation)
	if err == nil || errors.Is(err, errStory) {
		d.say.summary(time.Since(begin))
	}
	return err
}

// tell runs the chapters in their order, to the end unless ctx ends.
func (d *Demo) tell(ctx context.Context, chapters ...func(context.Context)) error {
	for _, chapter := range chapters {
		if chapter(ctx); ctx.Err() != nil {
			return fmt.Errorf("chapter %d of the demo did not end: %w", d.say.step, context.Cause(ctx))
		}
	}
	if d.say.failed > 0 {
		return errStory
	}
	return nil
}
