// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/internal/cri"
)

// found notes that what is steered is in step with the runtime.
func (r *runtimePods) found(what cri.Runtime) {
	r.mu.Lock()
	was := r.since
	r.away, r.since, r.answer = nil, time.Now(), what.String()
	r.mu.Unlock()
	r.log.Info("in step with the container runtime", "cri", r.address, "runtime", what.String(), "every", r.every(), "without_it", time.Since(was).Round(time.Millisecond))
}

// gone notes why the runtime cannot be asked. What is captured stays as it is.
func (r *runtimePods) gone(err error) {
	r.mu.Lock()
	was := r.away
	if was == nil {
		r.since = time.Now()
	}
	r.away = err
	r.mu.Unlock()
	if was == nil || was.Error() != err.Error() { // not each time that it is still not there
		r.log.Warn("the container runtime cannot be asked: pods that are captured stay so, others are not found", "cri", r.address, "error", err)
	}
}

func (r *runtimePods) setEvents(are bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = are
}

// every is how often the runtime is asked.
func (r *runtimePods) every() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.events {
		return r.pace.sweep
	}
	return r.pace.poll
}

// note remembers what has become of a sandbox, unless it has ended meanwhile.
func (r *runtimePods) note(id string, x *sandbox) {
	r.mu.Lock()
	was := r.have[id]
	if !r.ended[id] {
		r.have[id] = x
	}
	r.mu.Unlock()
	if x.fault == "" || was != nil && was.fault == x.fault {
		return
	}
	if x.final {
		r.log.Warn("a pod is not steered", "pod", x.pod.String(), "key", id, "why", x.fault)
	} else {
		r.log.Error("a pod is not steered, this is tried again", "pod", x.pod.String(), "key", id, "error", x.fault)
	}
}

// over notes that the CNI plugin has told the end of a sandbox. The runtime lists it a
// while longer: CRI-O takes down the network first.
func (r *runtimePods) over(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.have, id)
	if len(r.ended) < r.most {
		r.ended[id] = true
	}
}

// comes forgets that: the CNI plugin has told of it anew.
func (r *runtimePods) comes(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.ended, id)
}

func (r *runtimePods) isOver(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended[id]
}

// refused adds to a list of what is steered what is not, and why.
func (r *runtimePods) refused(list []Pod) []Pod {
	r.mu.Lock()
	defer r.mu.Unlock()
	listed := map[string]bool{}
	for i, p := range list {
		listed[p.Key] = true
		if x := r.have[p.Key]; x != nil && p.Error == "" {
			list[i].Error = x.fault
		}
	}
	for id, x := range r.have {
		if x.fault != "" && !listed[id] {
			list = append(list, Pod{Key: id, UID: x.pod.UID, Namespace: x.pod.Namespace, Name: x.pod.Name, State: stateRefused, Error: x.fault})
		}
	}
	slices.SortFunc(list, func(a, b Pod) int { return strings.Compare(a.Key, b.Key) })
	return list
}

// source tells how it is.
func (r *runtimePods) source() Source {
	every := r.every()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := Source{Kind: "cri", Address: r.address, Runtime: r.answer, State: "polled", Every: every.Seconds(), Since: r.since, Sandboxes: len(r.have)}
	switch {
	case r.away != nil:
		s.State, s.Error = stateAway, r.away.Error()
	case r.events:
		s.State = "events"
	}
	return s
}
