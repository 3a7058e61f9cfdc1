// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/egret-proxy/egret/internal/cri"
	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/steer"
)

// admit steers a sandbox, or notes why not.
func (r *runtimePods) admit(ctx context.Context, id string) {
	box, err := r.client.Sandbox(ctx, id)
	switch {
	case errors.Is(err, cri.ErrNotFound), err == nil && !box.Ready, ctx.Err() != nil:
		return
	case err == nil:
		err = r.add(ctx, box)
	}
	if errors.Is(err, errOver) {
		return
	}
	x := &sandbox{pod: podOf(box), tried: time.Now(), final: final(err)}
	if x.pod.Key = id; err != nil {
		x.fault = err.Error()
	}
	r.note(id, x)
}

// errOver: the pod has ended while it was looked at.
var errOver = errors.New("it is over")

// errForGood goes with what does not change in a sandbox's life.
var errForGood = errors.New("this does not change")

func final(err error) bool {
	return errors.Is(err, steer.ErrHostNetwork) || errors.Is(err, errForGood)
}

func podOf(box cri.Sandbox) steer.Pod {
	return steer.Pod{Key: box.ID, UID: box.UID, Namespace: box.Namespace, Name: box.Name}
}

func (r *runtimePods) add(ctx context.Context, box cri.Sandbox) error {
	p := podOf(box)
	switch {
	case box.HostNetwork:
		return fmt.Errorf("pod %s %w", p, steer.ErrHostNetwork)
	case box.Doubt != nil:
		return withReason(box.Doubt)
	case box.NetNS == "":
		return errors.New("the container runtime does not tell the path of its network namespace")
	}
	ns, err := r.open(ctx, box)
	if err != nil {
		return err
	}
	if err := r.agreed(p, ns); err != nil {
		return errors.Join(err, ns.Close())
	}
	ask := AddRequest{Key: p.Key, NetNS: box.NetNS, UID: p.UID, Namespace: p.Namespace, Name: p.Name}
	if err := r.state.keep(ask); err != nil { // first: what is captured must be found again
		return errors.Join(err, ns.Close())
	}
	if r.isOver(p.Key) {
		r.state.forget(p.Key)
		return errors.Join(errOver, ns.Close())
	}
	return r.m.Add(ctx, p, ns)
}

// withReason marks a reason that stays.
func withReason(err error) error { return &forGood{err} }

type forGood struct{ error }

func (f *forGood) Is(target error) bool { return target == errForGood }

// open holds the namespace. Its path is a name that the runtime has made for this sandbox
// and gives to no other one.
func (r *runtimePods) open(ctx context.Context, box cri.Sandbox) (*netns.NS, error) {
	ns, err := netns.Open(box.NetNS)
	if err == nil {
		return ns, nil
	}
	again, gone := r.client.Sandbox(ctx, box.ID)
	if errors.Is(gone, cri.ErrNotFound) || gone == nil && (!again.Ready || again.NetNS != box.NetNS) {
		return nil, errOver
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, netns.ErrNotNamespace) {
		return nil, fmt.Errorf("%w here: egret steer must see the folder in which the runtime mounts them (a container: mountPropagation: HostToContainer)", err)
	}
	return nil, err
}

// agreed holds what the runtime says to what the CNI plugin has said of the same sandbox,
// which stays as it is.
func (r *runtimePods) agreed(p steer.Pod, ns *netns.NS) error {
	was, ok := r.m.Known(p.Key)
	if !ok {
		return nil
	}
	cookie, err := steer.Cookie(ns)
	if err != nil {
		return err
	}
	p.NetNS = cookie
	if differ(was.UID, p.UID) || differ(was.Namespace, p.Namespace) || differ(was.Name, p.Name) || was.NetNS != p.NetNS {
		return withReason(fmt.Errorf("the CNI plugin has said that it is pod %s, UID %q, and the container runtime says %s, UID %q: it stays what it was; are both of one runtime?", was, was.UID, p, p.UID))
	}
	return nil
}

// differ: what has not been told contradicts nothing.
func differ(a, b string) bool { return a != "" && b != "" && a != b }
