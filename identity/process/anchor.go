// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"

	"github.com/egret-proxy/egret/identity"
	"github.com/egret-proxy/egret/identity/kernel"
)

// Bounds of looking through a cgroup.
const (
	maxLooked     = 4096 // processes looked at
	maxCandidates = 64   // of those that could be it, from which the oldest is taken
)

// anchor finds the process that the attestor is to be asked about. Over a unix socket it
// is the one that connected. Over TCP it is the oldest of those in the socket's cgroup
// that have the socket's uid: likely the one that started the others, and the last to
// end. It looks into that cgroup only, never through all of /proc.
func (s *session) anchor() (Reference, error) {
	if s.held != nil {
		return s.exact()
	}
	c := s.r.options.Cgroups
	path, err := c.Path(s.key.cgroup)
	if err != nil {
		return Reference{}, kernelError(err)
	}
	pids, err := c.PIDs(s.key.cgroup)
	if err != nil {
		return Reference{}, kernelError(err)
	}
	found := s.candidates(pids)
	best, err := s.choose(found)
	for _, f := range found {
		if f.Process != best.Process {
			f.Process.Close()
		}
	}
	if err != nil {
		return Reference{}, err
	}
	best.Cgroup, best.PodUID = path, s.r.pod(path)
	return best, nil
}

func (s *session) exact() (Reference, error) {
	f, err := s.held.Facts()
	if err != nil {
		return Reference{}, kernelError(err)
	}
	ref := Reference{Process: s.held, Facts: f, Exact: true}
	if c := s.r.options.Cgroups; c != nil {
		// Without a path, what is known by its path is not recognised: no harm is done.
		ref.Cgroup, _ = c.Path(f.Cgroup)
		ref.PodUID = s.r.pod(ref.Cgroup)
	}
	return ref, nil
}

// candidates holds those of the processes that have the socket's uid and are in its
// cgroup, by what is read after each is held.
func (s *session) candidates(pids []int) []Reference {
	var found []Reference
	for _, pid := range pids[:min(len(pids), maxLooked)] {
		p, err := kernel.Open(pid)
		if err != nil {
			continue
		}
		f, err := p.Facts()
		if err != nil || f.UID != s.key.uid || f.Cgroup != s.key.cgroup {
			p.Close()
			continue
		}
		if found = append(found, Reference{Process: p, Facts: f}); len(found) == maxCandidates {
			break
		}
	}
	return found
}

func (s *session) choose(found []Reference) (Reference, error) {
	if len(found) == 0 {
		return Reference{}, fmt.Errorf("%w: no process of uid %d is visible in cgroup %d (egret must see the processes of others: hostPID in Kubernetes, ProtectProc=default in a systemd unit, /proc without hidepid)", identity.ErrGone, s.key.uid, s.key.cgroup)
	}
	best := found[0]
	for _, f := range found[1:] {
		if f.Facts.Start < best.Facts.Start {
			best = f
		}
	}
	return best, s.uniform(found)
}

// uniform refuses a v2 group in which processes of different v1 groups are: what Hybrid
// states is not so. It is a safeguard and no proof, since a process may join later.
func (s *session) uniform(found []Reference) error {
	c := s.r.options.Cgroups
	if !c.Hybrid() || s.key.cgroup == c.Root() {
		return nil
	}
	err := s.compare(found)
	if errors.Is(err, errSeveral) {
		// A process that ends is in the top v1 groups before its pidfd says that it has ended.
		pause(s.ctx, exitTime)
		err = s.compare(found)
	}
	return err
}

var errSeveral = errors.New("it holds processes of several v1 groups, which may be containers; boot with systemd.unified_cgroup_hierarchy=1")

// compare holds the processes that have not ended to be in the same groups.
func (s *session) compare(found []Reference) error {
	first := ""
	for _, f := range found {
		all, err := f.Process.Hierarchies()
		switch {
		case errors.Is(err, kernel.ErrGone) || err != nil && !f.Process.Alive():
		case err != nil:
			return kernelError(err)
		case first == "":
			first = all
		case first != all:
			return fmt.Errorf("%w: cgroup %d: %w", identity.ErrUnknown, s.key.cgroup, errSeveral)
		}
	}
	return nil
}
