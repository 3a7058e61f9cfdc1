// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
)

// session follows one workload: it holds a process of it, and keeps what the attestor
// says about that process. It lives until the workload has no process left, or nobody
// has asked for it in a while.
type session struct {
	r      *Resolver
	key    key
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // its own life
	held   *kernel.Process // over unix sockets: the process that connected

	subject  atomic.Pointer[Reference] // who the attestor is asked about now
	answer   atomic.Pointer[answer]
	answered chan struct{} // closed with the first answer
	first    sync.Once
	used     atomic.Int64 // when it was last asked for, Unix nanoseconds
}

// answer is what the attestor has said last, immutable. Either it has SVIDs, or err says
// why there are none.
type answer struct {
	svids []*x509svid.SVID
	err   error
}

// errEnded: the session is over; another one may be had.
var errEnded = fmt.Errorf("%w: none of its processes is left", identity.ErrGone)

func newSession(r *Resolver, k key, held *kernel.Process) *session {
	s := &session{r: r, key: k, held: held, answered: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(r.ctx)
	s.touch()
	return s
}

func (s *session) touch() { s.used.Store(time.Now().UnixNano()) }

func (s *session) unused() time.Duration { return time.Since(time.Unix(0, s.used.Load())) }

// set stores an answer. Only run does it, and update, which Watch calls while run waits.
func (s *session) set(a *answer) {
	s.answer.Store(a)
	s.first.Do(func() { close(s.answered) })
}

// run follows the workload from one of its processes to the next.
func (s *session) run() {
	end := errEnded
	for s.ctx.Err() == nil {
		ref, err := s.anchor()
		if err != nil {
			if s.subject.Load() == nil { // else it has run its course
				end = err
			}
			break
		}
		s.subject.Store(&ref)
		s.follow(ref)
		if ref.Exact {
			break
		}
		ref.Process.Close()
	}
	s.cancel()
	s.r.remove(s)
	s.set(&answer{err: end})
	if s.held != nil {
		s.held.Close()
	}
}

// follow asks the attestor about one process for as long as that lives and somebody
// wants to know.
func (s *session) follow(ref Reference) {
	ctx, cancel := context.WithCancel(s.ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_ = ref.Process.Wait(ctx)
		cancel()
	})
	defer func() { cancel(); waiting.Wait() }()
	for retry := firstRetry; ctx.Err() == nil; retry = min(2*retry, lastRetry) {
		asked := time.Now()
		err := s.r.options.Attestor.Watch(ctx, ref, func(svids []*x509svid.SVID) error { return s.update(ref, svids) })
		if ctx.Err() != nil || errors.Is(err, errChanged) || ended(ctx, ref, err) {
			return
		}
		s.failed(ref, err)
		if time.Since(asked) > lastRetry {
			retry = firstRetry
		}
		pause(ctx, retry/2+rand.N(retry/2))
	}
}

// exitTime is what the kernel may need to end a process: its files and its program are
// gone first, and its pidfd says so last.
const exitTime = 20 * time.Millisecond

// ended reports whether an attestor broke off because the process ends. What it says
// about that, in whatever words, is nothing about the workload, which may have others. A
// denial is never put down to it.
func ended(ctx context.Context, ref Reference, err error) bool {
	if ref.Process.Alive() && !errors.Is(err, identity.ErrRevoked) {
		pause(ctx, exitTime)
	}
	return ctx.Err() != nil || !ref.Process.Alive()
}

// How an attestor is asked again that has denied or was not there.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// errChanged: the process is not any more what the attestor has been asked about.
var errChanged = errors.New("the process has changed while the attestor was asked")

// update takes an answer, if the process that it is about is still there and what it was
// (MUST I6): the attestor knows a PID only, and that may have been given to another.
func (s *session) update(ref Reference, svids []*x509svid.SVID) error {
	if err := same(ref); err != nil {
		return err
	}
	s.set(s.usable(svids))
	return nil
}

// same compares the process with what it was when the attestor was asked about it.
func same(ref Reference) error {
	now, err := ref.Process.Facts()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w: %w", identity.ErrGone, errChanged, err)
	case now != ref.Facts:
		return fmt.Errorf("%w: %w: it was %+v and is %+v", identity.ErrGone, errChanged, ref.Facts, now)
	}
	return nil
}

// usable keeps the SVIDs of allowed trust domains.
func (s *session) usable(svids []*x509svid.SVID) *answer {
	if len(svids) == 0 {
		return &answer{err: fmt.Errorf("%w: no identity is registered for %s", identity.ErrRevoked, s)}
	}
	kept := slices.DeleteFunc(slices.Clone(svids), func(v *x509svid.SVID) bool {
		return v.ID.Path() == "" || !slices.Contains(s.r.options.TrustDomains, v.ID.TrustDomain())
	})
	if len(kept) == 0 {
		return &answer{err: fmt.Errorf("%w: %s is %q", identity.ErrTrustDomain, s, svids[0].ID)}
	}
	return &answer{svids: kept}
}

// failed notes that the attestor broke off. A denial drops what it has said; where it is
// not there, its last word holds until the SVIDs end.
func (s *session) failed(ref Reference, err error) {
	s.r.options.Logger.Debug("attestor broke off", "workload", s.String(), "error", err)
	if err == nil {
		err = fmt.Errorf("%w: it broke off", identity.ErrUnavailable)
	}
	if errors.Is(err, identity.ErrGone) && ref.Process.Alive() {
		// The kernel knows better: the attestor could not look at a process that is there.
		err = fmt.Errorf("%w: the attestor does not see process %d: %w", identity.ErrUnavailable, ref.Facts.PID, hide(err))
	}
	if !known(err) {
		err = fmt.Errorf("%w: %w", identity.ErrUnavailable, err)
	}
	if last := s.answer.Load(); last != nil && last.err == nil && errors.Is(err, identity.ErrUnavailable) {
		return
	}
	s.set(&answer{err: err})
}

// hide keeps the text of an error and not its kind.
func hide(err error) error { return errors.New(err.Error()) }

func known(err error) bool {
	for _, k := range []error{identity.ErrRevoked, identity.ErrGone, identity.ErrUnavailable, identity.ErrUnknown, identity.ErrInvalid} {
		if errors.Is(err, k) {
			return true
		}
	}
	return false
}

// String names the workload for logs.
func (s *session) String() string {
	if s.key.pid != 0 {
		return fmt.Sprintf("process %d of uid %d", s.key.pid, s.key.uid)
	}
	return fmt.Sprintf("uid %d in cgroup %d", s.key.uid, s.key.cgroup)
}
