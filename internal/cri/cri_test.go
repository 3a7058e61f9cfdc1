// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package cri_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/internal/cri"
	"github.com/egret-proxy/egret/internal/cri/critest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func trusted(*net.UnixConn) error { return nil }

func client(t *testing.T, r *critest.Runtime, trust func(*net.UnixConn) error) *cri.Client {
	t.Helper()
	c, err := cri.New(cri.Options{Address: r.Address(), Trust: trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestNew(t *testing.T) {
	for _, address := range []string{"", "/run/containerd/containerd.sock", "unix://run/x", "tcp://127.0.0.1:1", "unix:"} {
		if _, err := cri.New(cri.Options{Address: address, Trust: trusted}); err == nil || !strings.Contains(err.Error(), "must be unix:///path (containerd: unix:///run/") {
			t.Errorf("%q: %v", address, err)
		}
	}
	if _, err := cri.New(cri.Options{Address: "unix:///x"}); err == nil {
		t.Error("it trusts nobody in particular")
	}
}

// TestCalls: what is ready, what is known of it, and what a runtime says of itself.
func TestCalls(t *testing.T) {
	r := critest.New(t)
	box := critest.Box{UID: "u", Namespace: "qa", Name: "job", NetNS: "/var/run/netns/cni-1"}
	gone, host := box, box
	gone.Gone, host.Host = true, true
	r.Boxes = map[string]*critest.Box{"a": &box, "gone": &gone, "host": &host}
	r.Start()
	c := client(t, r, trusted)
	what, err := c.Runtime(t.Context())
	if err != nil || what.String() != "containerd v2.2.0" || !what.Broadcasts() {
		t.Errorf("%+v, %v", what, err)
	}
	ids, err := c.Ready(t.Context())
	if slices.Sort(ids); err != nil || !slices.Equal(ids, []string{"a", "host"}) {
		t.Errorf("%q, %v", ids, err)
	}
	for id, want := range map[string]cri.Sandbox{
		"a":    {ID: "a", Ready: true, UID: "u", Namespace: "qa", Name: "job", NetNS: "/var/run/netns/cni-1"},
		"gone": {ID: "gone", UID: "u", Namespace: "qa", Name: "job", NetNS: "/var/run/netns/cni-1"},
		"host": {ID: "host", Ready: true, UID: "u", Namespace: "qa", Name: "job", HostNetwork: true},
	} {
		got, err := c.Sandbox(t.Context(), id)
		if err != nil {
			t.Error(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	}
	if _, err := c.Sandbox(t.Context(), "other"); !errors.Is(err, cri.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// TestTrust: where the peer is not trusted nothing is asked.
func TestTrust(t *testing.T) {
	r := critest.New(t)
	r.Start()
	c := client(t, r, func(*net.UnixConn) error { return errors.New("the socket is served by uid 7") })
	if _, err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "served by uid 7") {
		t.Errorf("%v", err)
	}
	if asked := r.Asked(); len(asked) != 0 {
		t.Errorf("asked %q", asked)
	}
}

func TestFaultsInWords(t *testing.T) {
	r := critest.New(t)
	r.Start()
	c := client(t, r, trusted)
	for want, fault := range map[string]error{
		"it does not speak CRI v1":    status.Error(codes.Unimplemented, "unknown service runtime.v1.RuntimeService"),
		"Unknown: not initialized":    status.Error(codes.Unknown, "not initialized"),
		"at its own limit: too large": status.Error(codes.ResourceExhausted, "too large"),
	} {
		r.Change(func(r *critest.Runtime) { r.Fault = func(string) error { return fault } })
		if _, err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// TestTooLarge: an answer beyond the bound is none.
func TestTooLarge(t *testing.T) {
	r := critest.New(t)
	r.Boxes["a"] = &critest.Box{Name: strings.Repeat("x", 17<<20)}
	r.Start()
	c := client(t, r, trusted)
	if ids, err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 16 MiB") {
		t.Errorf("%d, %v", len(ids), err)
	}
}

// TestComesBack: a runtime that is started anew is asked over a new connection, soon.
func TestComesBack(t *testing.T) {
	r := critest.New(t)
	r.Start()
	c := client(t, r, trusted)
	for range 2 {
		r.Stop()
		if _, err := c.Ready(t.Context()); err == nil {
			t.Error("a runtime that is away has answered")
		}
		r.Start()
		begun := time.Now()
		for _, err := c.Ready(t.Context()); err != nil; _, err = c.Ready(t.Context()) {
			if time.Since(begun) > 20*time.Second {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

func TestEvents(t *testing.T) {
	r := critest.New(t)
	events := r.Events
	r.Start()
	c := client(t, r, trusted)
	var n atomic.Int64
	done := make(chan error)
	listen := func() { done <- c.Events(t.Context(), func() { n.Add(1) }) }
	go listen()
	events <- struct{}{}
	close(events) // as CRI-O does where it is not set to tell
	if err := <-done; !errors.Is(err, cri.ErrNoEvents) || n.Load() != 2 {
		t.Errorf("%v, %d events", err, n.Load())
	}
	r.Change(func(r *critest.Runtime) { r.Events = nil }) // as containerd 1.6
	go listen()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "not all of it") {
		t.Errorf("%v", err)
	}
	r.Change(func(r *critest.Runtime) { r.Events = make(chan struct{}) })
	go listen()
	for n.Load() < 3 {
		time.Sleep(time.Millisecond)
	}
	r.Stop()
	if err := <-done; err == nil || errors.Is(err, cri.ErrNoEvents) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Events(ctx, func() {}); err == nil {
		t.Error("it goes on")
	}
}

func TestBroadcasts(t *testing.T) {
	for want, list := range map[bool][]cri.Runtime{
		true: {{Name: "containerd", Version: "v2.0.0"}, {Name: "containerd", Version: "2.2.0-rc.1+x"}, {Name: "containerd", Version: "v10.0.0"}, {Name: "cri-o", Version: "1.34.0"}},
		false: {
			{}, {Name: "containerd", Version: "v1.7.27"}, {Name: "containerd", Version: "1.6.20~ds1"}, {Name: "containerd", Version: "v"}, {Name: "containerd", Version: "dev"},
			{Name: "cri-dockerd", Version: "v2.0.0"}, {Name: "containerd", Version: "-2.0"},
		},
	} {
		for _, r := range list {
			if r.Broadcasts() != want {
				t.Errorf("%+v: %v", r, !want)
			}
		}
	}
}
