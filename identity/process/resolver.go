// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
)

// Bounds of a Resolver where Options say nothing.
const (
	DefaultSessions = 4096
	DefaultIdle     = 15 * time.Minute
)

// Options configure a Resolver. Attestor and TrustDomains are required.
type Options struct {
	Attestor     Attestor
	TrustDomains []spiffeid.TrustDomain // whose identities a local process may have
	// Accept says which of the identities that the attestor returns may be the caller's;
	// nil: any. Where more than one is left, the caller is refused (MUST I7). It is asked
	// once per connection and must be safe for concurrent use.
	Accept func(spiffeid.ID) bool

	// Cgroups is needed for TCP; without it only unix sockets are identified.
	Cgroups *kernel.Cgroups
	// Hybrid states, for a machine that mounts cgroup v1 controllers as well, that every
	// workload is in a v2 group of its own all the same. Where a container runtime puts
	// containers into v1 groups only, several of them share a v2 group, and one could be
	// taken for another.
	Hybrid bool
	// RootCgroup accepts callers over TCP that are in no cgroup but the top one. They are
	// known by their uid alone: for machines where users, not containers, tell workloads
	// apart.
	RootCgroup bool

	Sessions   int                   // callers that are followed at once; default 4096
	Idle       time.Duration         // after which an unused one is let go; longer than a connection may idle; default 15m
	Logger     *slog.Logger          // default: nothing is logged
	Registerer prometheus.Registerer // default: no metrics
}

// Resolver identifies callers by identity.Peer.Proc. It follows each workload that it
// has seen, so that the attestor is asked once per workload and not per connection, and
// lets go of it when its processes have ended. It implements identity.Resolver.
type Resolver struct {
	options Options
	ctx     context.Context //nolint:containedctx // the life of the sessions, which outlive every call
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	sessions map[key]*session
	serial   uint64 // names sessions that must not be shared
}

// key names a workload: (cgroup, uid) over TCP; over a unix socket the process and the
// program that it runs, which an exec changes.
type key struct {
	cgroup  uint64
	uid     uint32
	pid     int // 0 over TCP
	start   uint64
	program kernel.Executable
	serial  uint64
}

// New makes a resolver. Close must be called to let go of what it follows.
func New(o Options) (*Resolver, error) {
	switch {
	case o.Attestor == nil:
		return nil, errors.New("process: no attestor given")
	case len(o.TrustDomains) == 0:
		return nil, errors.New("process: no trust domain is allowed; list those whose identities local processes have")
	case o.Cgroups != nil && o.Cgroups.Hybrid() && !o.Hybrid && !o.RootCgroup:
		return nil, errors.New("process: this machine mounts cgroup v1 controllers too, so several containers may share one v2 group; state that each workload has a v2 group of its own (hybrid), or boot with systemd.unified_cgroup_hierarchy=1")
	}
	if o.Accept == nil {
		o.Accept = func(spiffeid.ID) bool { return true }
	}
	if o.Sessions <= 0 {
		o.Sessions = DefaultSessions
	}
	if o.Idle <= 0 {
		o.Idle = DefaultIdle
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.TrustDomains = slices.Clone(o.TrustDomains)
	r := &Resolver{options: o, sessions: make(map[key]*session)}
	if err := r.register(o.Registerer); err != nil {
		return nil, err
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.running.Go(r.sweep)
	return r, nil
}

func (r *Resolver) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	err := to.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "egret_process_workloads",
		Help: "Local workloads whose identity is followed now.",
	}, func() float64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return float64(len(r.sessions))
	}))
	if err != nil {
		return fmt.Errorf("process: register metrics: %w", err)
	}
	return nil
}

// Close lets go of everything; callers are ErrGone from then on.
func (r *Resolver) Close() {
	r.cancel()
	r.running.Wait()
}

// Resolve implements identity.Resolver. It waits for the attestor's first answer about a
// workload, until ctx ends. Errors: ErrUnknown where the kernel says too little,
// ErrGone, ErrRevoked when the workload is entitled to nothing, ErrInvalid when to
// several identities of which Accept does not select one, ErrTrustDomain, ErrUnavailable.
func (r *Resolver) Resolve(ctx context.Context, p identity.Peer) (identity.Caller, error) {
	if p.Proc == nil {
		return nil, fmt.Errorf("%w: the listener did not ask the kernel about the caller", identity.ErrUnknown)
	}
	k, held, err := r.key(*p.Proc)
	if err != nil {
		return nil, err
	}
	for {
		s, err := r.session(k, held)
		if err != nil {
			return nil, err
		}
		held = nil // it is the session's now
		c, err := r.caller(ctx, s)
		if errors.Is(err, errEnded) && k.pid == 0 && ctx.Err() == nil {
			continue // its last process ended just before this one's connection
		}
		if err == nil {
			err = s.inPod(p.Proc.PodUID)
		}
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

// key says which workload the kernel's facts name. For a unix socket it returns the
// process, held.
func (r *Resolver) key(p identity.Process) (key, *kernel.Process, error) {
	if p.PIDFD >= 0 {
		return r.exact(p)
	}
	switch {
	case r.options.Cgroups == nil:
		return key{}, nil, fmt.Errorf("%w: only unix sockets are identified here", identity.ErrUnknown)
	case p.Cgroup == 0:
		return key{}, nil, fmt.Errorf("%w: the kernel does not say which cgroup the caller's socket is of (it needs Linux 5.8)", identity.ErrUnknown)
	case p.Cgroup == r.options.Cgroups.Root() && !r.options.RootCgroup:
		return key{}, nil, fmt.Errorf("%w: the caller is in the top cgroup, where workloads cannot be told apart; start it in a group of its own (systemd-run --scope)", identity.ErrUnknown)
	}
	return key{cgroup: p.Cgroup, uid: p.UID}, nil, nil
}

// exact holds the process that connected. Its user when it connected is that of the
// socket; a process that has changed it since, by exec of a set-user-ID program or
// otherwise, is not what connected.
func (r *Resolver) exact(p identity.Process) (key, *kernel.Process, error) {
	h, err := kernel.Adopt(p.PIDFD)
	if err != nil {
		return key{}, nil, kernelError(err)
	}
	f, err := h.Facts()
	if err == nil && f.UID != p.UID {
		err = fmt.Errorf("%w: the caller had uid %d when it connected and has %d now", identity.ErrUnknown, p.UID, f.UID)
	}
	if err != nil {
		h.Close()
		return key{}, nil, kernelError(err)
	}
	k := key{cgroup: f.Cgroup, uid: f.UID, pid: f.PID, start: f.Start}
	if k.program, err = h.Executable(); err != nil {
		// We may not see which program it runs, so that the next connection of this
		// process may be another program's: nothing is shared between them.
		r.mu.Lock()
		r.serial++
		k.serial = r.serial
		r.mu.Unlock()
	}
	return k, h, nil
}

// kernelError says in identity's words what went wrong in asking the kernel.
func kernelError(err error) error {
	switch {
	case errors.Is(err, identity.ErrUnknown):
		return err
	case errors.Is(err, kernel.ErrGone):
		return fmt.Errorf("%w: %w", identity.ErrGone, err)
	}
	return fmt.Errorf("%w: %w", identity.ErrUnknown, err)
}

// session returns the one that follows the workload, or starts it. It takes held over,
// also when it fails.
func (r *Resolver) session(k key, held *kernel.Process) (*session, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sessions[k]; s != nil {
		if held != nil {
			held.Close()
		}
		s.touch()
		return s, nil
	}
	if err := r.roomLocked(); err != nil {
		if held != nil {
			held.Close()
		}
		return nil, err
	}
	s := newSession(r, k, held)
	r.sessions[k] = s
	r.running.Go(s.run)
	return s, nil
}

// busy is how long after its last use a session is not given up for another one's sake.
const busy = 30 * time.Second

// roomLocked makes room for one more session, by ending the one that has been unused
// for longest.
func (r *Resolver) roomLocked() error {
	if r.ctx.Err() != nil {
		return fmt.Errorf("%w: egret is stopping", identity.ErrUnavailable)
	}
	if len(r.sessions) < r.options.Sessions {
		return nil
	}
	var oldest *session
	for _, s := range r.sessions {
		if oldest == nil || s.used.Load() < oldest.used.Load() {
			oldest = s
		}
	}
	if oldest.unused() < busy {
		return fmt.Errorf("%w: %d local workloads are followed already, all of them busy; raise the bound", identity.ErrUnavailable, len(r.sessions))
	}
	oldest.cancel()
	delete(r.sessions, oldest.key)
	return nil
}

// sweep ends the sessions that nobody has asked for in a while.
func (r *Resolver) sweep() {
	tick := time.NewTicker(max(r.options.Idle/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
		r.mu.Lock()
		for k, s := range r.sessions {
			if s.unused() >= r.options.Idle {
				s.cancel()
				delete(r.sessions, k)
			}
		}
		r.mu.Unlock()
	}
}

// remove forgets a session that has ended, if it is still the one of its workload.
func (r *Resolver) remove(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sessions[s.key] == s {
		delete(r.sessions, s.key)
	}
}
