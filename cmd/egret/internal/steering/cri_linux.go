// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/egret-proxy/egret/internal/cri"
	"github.com/egret-proxy/egret/internal/steer"
)

// runtimePods steers the pods that the container runtime has, those that were there first
// among them. It is in step with what is ready there, whatever it has missed: an event says
// only when to look. A pod that the CNI plugin has told of is the same one here: the
// sandbox's ID is the key of both.
type runtimePods struct {
	address string
	client  *cri.Client
	m       *steer.Steersman
	state   *state
	log     *slog.Logger
	pace    pace
	most    int // sandboxes that are remembered

	mu     sync.Mutex
	have   map[string]*sandbox // by ID: steered, or not with a reason
	ended  map[string]bool     // the CNI plugin has said so, while the runtime may still list it
	away   error               // why the runtime was not to be asked the last time
	since  time.Time           // of away, or of the first answer after it
	answer string              // what the runtime calls itself
	events bool                // it tells when something has happened
}

// sandbox is one that has been ready.
type sandbox struct {
	pod   steer.Pod
	tried time.Time
	fault string // why it is not steered; empty: it is
	final bool   // the fault will not go away
}

// pace is how often the runtime is asked.
type pace struct {
	poll    time.Duration // where it tells no events
	sweep   time.Duration // where it does: for those that are lost
	rest    time.Duration // between two looks, whatever happens
	retry   time.Duration // what could not be steered
	first   time.Duration // after the runtime has gone; doubled up to last
	last    time.Duration
	settled time.Duration // how long what was served before waits for the runtime's first answer
}

func usualPace() pace {
	return pace{poll: time.Second, sweep: lookEvery, rest: 50 * time.Millisecond, retry: lookEvery, first: 100 * time.Millisecond, last: 5 * time.Second, settled: 5 * time.Second}
}

// maxSandboxes bounds what is remembered: a kubelet has some hundred pods.
const maxSandboxes = 4096

func newRuntimePods(address string, m *steer.Steersman, s *state, log *slog.Logger) (*runtimePods, error) {
	client, err := cri.New(cri.Options{Address: address, Trust: steer.ServedByRoot})
	if err != nil {
		return nil, err
	}
	return &runtimePods{
		address: address, client: client, m: m, state: s, log: log, pace: usualPace(), most: maxSandboxes, since: time.Now(), away: errors.New("it has not been asked yet"),
		have: map[string]*sandbox{}, ended: map[string]bool{},
	}, nil
}

// run follows the runtime until ctx ends. begun is called when the pods that there are have
// been added, or the runtime has not answered for a while: then those are steered that were
// before, by their state.
func (r *runtimePods) run(ctx context.Context, begun func()) error {
	defer r.client.Close() //nolint:errcheck // nothing is lost
	r.recall()
	settle := sync.OnceFunc(begun)
	start, wait := time.Now(), r.pace.first
	for ctx.Err() == nil {
		answered, err := r.follow(ctx, settle)
		if ctx.Err() != nil {
			return nil
		}
		if answered {
			wait = r.pace.first
		}
		r.gone(err)
		if time.Since(start) > r.pace.settled {
			settle()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, r.pace.last)
	}
	return nil
}

// recall takes over what is steered already, by its state: what has ended meanwhile is
// looked for, too.
func (r *runtimePods) recall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.m.Status() {
		if x.State != "failed" {
			r.have[x.Key] = &sandbox{pod: x.Pod}
		}
	}
}

// follow looks at the runtime until it cannot be asked, and says whether it could at first.
func (r *runtimePods) follow(ctx context.Context, looked func()) (answered bool, _ error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	what, err := r.client.Runtime(ctx)
	if err != nil {
		return false, err
	}
	happened := make(chan struct{}, 1)
	var listening sync.WaitGroup
	defer listening.Wait()
	defer cancel()
	if what.Broadcasts() {
		r.setEvents(true)
		listening.Go(func() { r.listen(ctx, happened) })
	}
	for err = r.look(ctx); err == nil; err = r.look(ctx) {
		if !answered {
			answered = true
			looked()
			r.found(what)
		}
		if !r.wait(ctx, happened) {
			break
		}
	}
	return answered, err
}

// listen waits for events. Without them the runtime is polled.
func (r *runtimePods) listen(ctx context.Context, happened chan<- struct{}) {
	tell := func() {
		select {
		case happened <- struct{}{}:
		default: // a look is due already
		}
	}
	err := r.client.Events(ctx, tell)
	r.setEvents(false)
	if ctx.Err() == nil {
		r.log.Info("no events of the container runtime, it is polled", "cri", r.address, "every", r.pace.poll, "why", err)
		tell()
	}
}

// wait returns when the next look is due; false: ctx has ended.
func (r *runtimePods) wait(ctx context.Context, happened <-chan struct{}) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(r.pace.rest):
	}
	select {
	case <-ctx.Done():
		return false
	case <-happened:
	case <-time.After(r.every()):
	}
	return true
}

// look brings the Steersman in step with the runtime.
func (r *runtimePods) look(ctx context.Context) error {
	ids, err := r.client.Ready(ctx)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(ids))
	for _, id := range ids {
		there[id] = true
	}
	var g errgroup.Group
	g.SetLimit(atOnce)
	for _, id := range r.missing(there) {
		g.Go(func() error { r.leave(ctx, id); return nil })
	}
	for _, id := range r.due(ids) {
		g.Go(func() error { r.admit(ctx, id); return nil })
	}
	return g.Wait()
}

// missing are those that were ready and are not listed any more.
func (r *runtimePods) missing(there map[string]bool) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id := range r.ended {
		if !there[id] {
			delete(r.ended, id)
		}
	}
	for id := range r.have {
		if !there[id] {
			out = append(out, id)
		}
	}
	return out
}

// leave ends what is over. That a sandbox is not listed is not enough: a runtime that is
// just coming back might not know all of its own.
func (r *runtimePods) leave(ctx context.Context, id string) {
	box, err := r.client.Sandbox(ctx, id)
	if err == nil && box.Ready || err != nil && !errors.Is(err, cri.ErrNotFound) {
		return // the next look will see
	}
	r.m.End(ctx, id)
	r.state.forget(id)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.have, id)
}

// due are those of which something is to be done: new ones, as far as there is room for
// them, and those that may be steered by now.
func (r *runtimePods) due(ids []string) (out []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	room := r.most - len(r.have)
	for _, id := range ids {
		x := r.have[id]
		switch {
		case r.ended[id]:
		case x == nil && room > 0:
			room--
			out = append(out, id)
		case x != nil && r.again(id, x):
			out = append(out, id)
		}
	}
	return out
}

// again reports whether to try once more. The caller holds r.mu.
func (r *runtimePods) again(id string, x *sandbox) bool {
	if x.fault == "" {
		return r.m.Blocked(id) && time.Since(x.tried) >= r.pace.retry
	}
	return !x.final && time.Since(x.tried) >= r.pace.retry
}
