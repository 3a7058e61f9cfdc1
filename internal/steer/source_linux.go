// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steer

import (
	"context"
	"errors"

	"github.com/egret-proxy/egret/internal/netns"
)

// What sources of pods ask, besides Add and Remove.

// Blocked reports whether a namespace is not steered because a process of the pod has the
// port: it may be free by now, and Add tries again.
func (m *Steersman) Blocked(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	x := m.pods[key]
	return x != nil && errors.Is(x.err, ErrPortTaken)
}

// Known returns what a key is steered as, or is not with a reason. ok is false where
// nobody has told of it.
func (m *Steersman) Known(key string) (p Pod, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if x := m.pods[key]; x != nil {
		return x.pod, true
	}
	return Pod{}, false
}

// End ends the steering of a pod that is over, as Remove does, but leaves its rules in
// force: they go with its namespace, and a process that outlives the pod's first one must
// not get past them.
func (m *Steersman) End(ctx context.Context, key string) { m.drop(ctx, key, true) }

// Cookie returns the number of a namespace that Pod.NetNS is.
func Cookie(ns *netns.NS) (cookie uint64, err error) {
	err = ns.Do(func() (err error) {
		cookie, err = cookieHere()
		return err
	})
	return cookie, err
}
