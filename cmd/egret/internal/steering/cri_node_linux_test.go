// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/egret-proxy/egret/internal/cri/critest"
	"github.com/egret-proxy/egret/internal/steer"
)

// newNetNS makes a network namespace and mounts it as a file, as CNI does.
func newNetNS(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are made by root")
	}
	path := filepath.Join(t.TempDir(), "ns")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) })
	return path
}

// counted are rules that are counted instead of installed.
type counted struct {
	mu      sync.Mutex
	in, out int
}

func (c *counted) Install(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.in++
	return nil
}

func (c *counted) Remove(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out++
	return nil
}

func (c *counted) counts() (in, out int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.in, c.out
}

// node is an egret steer with a container runtime, in one process.
type node struct {
	*testing.T
	r     *critest.Runtime
	rules *counted
	m     *steer.Steersman
	state *state
	pods  *runtimePods
	mu    sync.Mutex
	log   bytes.Buffer
	begun chan struct{}
}

func (n *node) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

func (n *node) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

func newNode(t *testing.T) *node {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces are entered by root")
	}
	n := &node{T: t, r: critest.New(t), rules: &counted{}, begun: make(chan struct{})}
	log := slog.New(slog.NewTextHandler(n, nil))
	var err1, err2, err3 error
	n.m, err1 = steer.New(steer.Options{Rules: n.rules, Port: 8651, Log: log})
	n.state, err2 = newState(filepath.Join(t.TempDir(), "pods"), log)
	n.pods, err3 = newRuntimePods(n.r.Address(), n.m, n.state, log)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	n.pods.pace = pace{
		poll: 10 * time.Millisecond, sweep: 20 * time.Millisecond, rest: time.Millisecond, retry: 30 * time.Millisecond,
		first: 10 * time.Millisecond, last: 20 * time.Millisecond, settled: 100 * time.Millisecond,
	}
	return n
}

// follow begins.
func (n *node) follow() {
	ctx, cancel := context.WithCancel(n.Context())
	done := make(chan error)
	go func() { done <- n.pods.run(ctx, func() { close(n.begun) }) }()
	n.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			n.Error(err)
		}
		n.m.Close()
	})
}

// box adds a pod, before Start or by Change.
func (n *node) box(id, netns string) *critest.Box {
	b := &critest.Box{UID: "uid-" + id, Namespace: "qa", Name: "pod-" + id, NetNS: netns}
	n.r.Change(func(r *critest.Runtime) { r.Boxes[id] = b })
	return b
}

func (n *node) change(f func()) { n.r.Change(func(*critest.Runtime) { f() }) }

func (n *node) eventually(what string, holds func() bool) {
	n.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if holds() {
			return
		}
	}
	n.Fatalf("never happened: %s\n%s", what, n.logged())
}

// looks waits for so many looks from now on.
func (n *node) looks(more int) {
	n.Helper()
	before := n.r.Count("ListPodSandbox")
	n.eventually("looks", func() bool { return n.r.Count("ListPodSandbox") > before+more })
}

func (n *node) steered(id string) func() bool {
	return func() bool { _, ok := n.m.Known(id); return ok }
}

// fault is why a sandbox is not steered.
func (n *node) fault(id string) string {
	for _, p := range n.pods.refused(nil) {
		if p.Key == id {
			return p.Error
		}
	}
	return ""
}
