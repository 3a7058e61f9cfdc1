// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/egret-proxy/egret/internal/cri/critest"
	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/steer"
)

// TestMUST_P1_TheRuntimeIsOnlyRead: in a life with everything in it, four calls are made, of
// which none changes anything.
func TestMUST_P1_TheRuntimeIsOnlyRead(t *testing.T) {
	n := newNode(t)
	a := n.box("a", newNetNS(t))
	n.box("host", "").Host = true
	n.r.Start()
	n.follow()
	<-n.begun
	n.box("b", newNetNS(t))
	n.eventually("b", n.steered("b"))
	n.change(func() { a.Gone = true })
	n.eventually("a is over", func() bool { return !n.steered("a")() })
	n.r.Stop()
	n.eventually("it is away", func() bool { return n.pods.source().Away() })
	n.r.Start()
	n.eventually("it is back", func() bool { return !n.pods.source().Away() })
	for _, call := range n.r.Asked() {
		if !slices.Contains([]string{"Version", "ListPodSandbox", "PodSandboxStatus", "GetContainerEvents"}, call) {
			t.Errorf("asked for %s", call)
		}
	}
}

// TestRulesOutliveTheSandbox: a sandbox may be over while processes of it are not, and what
// they do must not get out: its rules go with the namespace.
func TestRulesOutliveTheSandbox(t *testing.T) {
	n := newNode(t)
	a := n.box("a", newNetNS(t))
	b := newNetNS(t)
	n.box("b", b)
	n.r.Start()
	n.follow()
	<-n.begun
	n.change(func() { a.Gone = true })
	n.r.Change(func(r *critest.Runtime) { delete(r.Boxes, "b") })
	n.eventually("both are over", func() bool { return !n.steered("a")() && !n.steered("b")() })
	if in, out := n.rules.counts(); in != 2 || out != 0 {
		t.Errorf("rules were installed %d times and removed %d times", in, out)
	}
	if left, _ := os.ReadDir(n.state.dir); len(left) != 0 {
		t.Errorf("state of %d pods is left", len(left))
	}
}

// TestLeftOutOfTheList: what is only not listed is not over.
func TestLeftOutOfTheList(t *testing.T) {
	n := newNode(t)
	n.box("a", newNetNS(t))
	n.r.Start()
	n.follow()
	<-n.begun
	n.r.Change(func(r *critest.Runtime) { r.Unlisted = func(string) bool { return true } })
	n.looks(3)
	n.r.Change(func(r *critest.Runtime) {
		r.Boxes = map[string]*critest.Box{}
		r.Fault = func(method string) error {
			if method == "PodSandboxStatus" {
				return status.Error(codes.Unknown, "not initialized")
			}
			return nil
		}
	})
	n.looks(3)
	if in, _ := n.rules.counts(); !n.steered("a")() || in != 1 {
		t.Errorf("it was given up, or steered %d times", in)
	}
	n.r.Change(func(r *critest.Runtime) { r.Fault = nil })
	n.eventually("it is over", func() bool { return !n.steered("a")() })
}

// TestDisagreement: where the CNI plugin has said something else of a sandbox, that stays,
// and it is told.
func TestDisagreement(t *testing.T) {
	for name, tell := range map[string]func(a *AddRequest, other string){
		"UID":       func(a *AddRequest, _ string) { a.UID = "uid-of-another" },
		"name":      func(a *AddRequest, _ string) { a.Name = "pod-of-another" },
		"namespace": func(a *AddRequest, other string) { a.NetNS = other },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			ns := newNetNS(t)
			said := AddRequest{Key: "a", NetNS: ns, UID: "uid-a", Namespace: "qa", Name: "pod-a"}
			tell(&said, newNetNS(t))
			if err := said.add(t.Context(), n.m); err != nil {
				t.Fatal(err)
			}
			was, _ := n.m.Known("a")
			n.box("a", ns)
			n.r.Start()
			n.pods.have["x"] = &sandbox{} // so that recall is not what is tested
			if err := n.pods.look(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = n.pods.client.Close(); n.m.Close() })
			if now, _ := n.m.Known("a"); now != was || !strings.Contains(n.fault("a"), "the CNI plugin has said that it is pod") {
				t.Errorf("%+v, %q", now, n.fault("a"))
			}
			if list := n.pods.refused([]Pod{{Key: "a", State: "served"}}); len(list) != 1 || list[0].State != "served" || list[0].Error == "" {
				t.Errorf("%+v", list)
			}
		})
	}
}

// TestAgreement: a pod that both tell of is one, and is entered once.
func TestAgreement(t *testing.T) {
	n := newNode(t)
	ns := newNetNS(t)
	if err := (AddRequest{Key: "a", NetNS: ns, Namespace: "qa", Name: "pod-a"}).add(t.Context(), n.m); err != nil { // an older runtime tells the plugin no UID
		t.Fatal(err)
	}
	n.box("a", ns)
	n.r.Start()
	t.Cleanup(func() { _ = n.pods.client.Close(); n.m.Close() })
	for range 2 {
		if err := n.pods.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if in, out := n.rules.counts(); in != 1 || out != 0 || n.fault("a") != "" || len(n.m.Status()) != 1 {
		t.Errorf("%d, %d, %q", in, out, n.fault("a"))
	}
}

// TestEndByThePlugin: a sandbox whose end the CNI plugin has told is not captured anew while
// the runtime still lists it (CRI-O takes down the network first), and its number may come
// again.
func TestEndByThePlugin(t *testing.T) {
	n := newNode(t)
	s := &Steering{o: Options{Log: slog.New(slog.DiscardHandler)}, m: n.m, state: n.state, runtime: n.pods}
	a := n.box("a", newNetNS(t))
	n.r.Start()
	n.follow()
	<-n.begun
	del := httptest.NewRequestWithContext(t.Context(), http.MethodDelete, "/v1/pods/a", nil)
	del.SetPathValue("key", "a")
	s.handleRemove(httptest.NewRecorder(), del)
	n.looks(5)
	if n.steered("a")() {
		t.Error("it is captured again")
	}
	n.change(func() { a.Gone = true })
	n.looks(3)
	if n.pods.isOver("a") {
		t.Error("it is remembered for ever")
	}
	n.change(func() { a.Gone = false })
	n.eventually("it is captured again", n.steered("a"))
}

// TestEndsWhileItIsLookedAt: neither an error nor a pod comes of it, whether the runtime still
// knows it or not.
func TestEndsWhileItIsLookedAt(t *testing.T) {
	for name, end := range map[string]func(*critest.Runtime){
		"stopped": func(r *critest.Runtime) { r.Boxes["a"].Gone = true },
		"removed": func(r *critest.Runtime) { delete(r.Boxes, "a") },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.box("a", filepath.Join(t.TempDir(), "gone"))
			var once sync.Once
			n.r.Meanwhile = func(method, _ string) {
				if method == "PodSandboxStatus" {
					once.Do(func() { n.r.Change(end) })
				}
			}
			n.r.Start()
			n.follow()
			<-n.begun
			n.looks(2)
			if strings.Contains(n.logged(), "not steered") || len(n.pods.refused(nil)) != 0 {
				t.Errorf("%s", n.logged())
			}
		})
	}
}

// TestFaultsAreTriedAgain: what may change is tried again, is logged once, and what may not
// is not.
func TestFaultsAreTriedAgain(t *testing.T) {
	n := newNode(t)
	ns := newNetNS(t)
	a := n.box("a", "/nonexistent/ns")
	n.box("host", "").Host = true
	n.box("bare", ns).Labels = map[string]string{}
	n.box("silent", "")
	n.r.Start()
	n.follow()
	<-n.begun
	n.looks(10)
	for id, why := range map[string]string{
		"a": "mountPropagation: HostToContainer", "host": "is in the host's network", "bare": "no pod of a kubelet", "silent": "does not tell the path",
	} {
		if got := n.fault(id); !strings.Contains(got, why) {
			t.Errorf("%s: %q", id, got)
		}
		if times := strings.Count(n.logged(), "key="+id+" "); times != 1 {
			t.Errorf("%s was logged %d times", id, times)
		}
	}
	n.change(func() { a.NetNS = ns })
	n.eventually("it is steered", n.steered("a"))
	n.eventually("and is not refused any more", func() bool { return n.fault("a") == "" })
}

// TestBegunWithoutTheRuntime: what was steered before is steered again though the runtime is
// away, and is still held to it when it is back.
func TestBegunWithoutTheRuntime(t *testing.T) {
	n := newNode(t)
	there, over := newNetNS(t), newNetNS(t)
	for key, ns := range map[string]string{"a": there, "b": over} {
		if err := n.state.keep(AddRequest{Key: key, NetNS: ns, UID: "uid-" + key, Namespace: "qa", Name: "pod-" + key}); err != nil {
			t.Fatal(err)
		}
	}
	n.state.restore(t.Context(), n.m)
	n.follow()
	<-n.begun
	if src := n.pods.source(); !n.steered("a")() || !n.steered("b")() || !src.Away() || src.Error == "" {
		t.Errorf("%+v\n%s", src, n.logged())
	}
	if times := strings.Count(n.logged(), "cannot be asked"); times != 1 {
		t.Errorf("logged %d times", times)
	}
	n.box("a", there)
	n.r.Start()
	n.eventually("it is in step", func() bool { return !n.pods.source().Away() })
	n.eventually("b is over", func() bool { return !n.steered("b")() })
	if in, out := n.rules.counts(); !n.steered("a")() || in != 2 || out != 0 {
		t.Errorf("%d, %d", in, out)
	}
}

// TestWithoutEvents: a runtime that tells none, stops to, or would tell them to nobody else,
// is polled.
func TestWithoutEvents(t *testing.T) {
	for name, tc := range map[string]struct {
		release string
		events  chan struct{}
		asks    bool
	}{
		"containerd 1.6": {"1.6.20~ds1", make(chan struct{}), false}, // the kubelet would miss what is read here
		"none":           {"v2.2.0", nil, true},
		"not set":        {"v2.2.0", closed(), true},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.r.Release, n.r.Events = tc.release, tc.events
			n.r.Start()
			n.follow()
			<-n.begun
			n.eventually("it is polled", func() bool { return n.pods.source().State == "polled" })
			n.box("a", newNetNS(t))
			n.eventually("it is found", n.steered("a"))
			if asked := slices.Contains(n.r.Asked(), "GetContainerEvents"); asked != tc.asks {
				t.Errorf("asked for events: %v", asked)
			}
		})
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// TestEventsAreHeard: with events nobody waits for the next sweep.
func TestEventsAreHeard(t *testing.T) {
	n := newNode(t)
	events := n.r.Events
	n.pods.pace.sweep = time.Hour
	n.r.Start()
	n.follow()
	<-n.begun
	n.looks(0) // the twin's first event
	n.box("a", newNetNS(t))
	events <- struct{}{}
	n.eventually("it is found", func() bool { return n.steered("a")() && n.pods.source().Sandboxes == 1 })
	if src := n.pods.source(); src.State != "events" {
		t.Errorf("%+v", src)
	}
}

// TestBounded: a runtime that lists more than there can be fills no memory.
func TestBounded(t *testing.T) {
	n := newNode(t)
	n.pods.most = 20
	for i := range n.pods.most + 50 {
		n.r.Boxes[fmt.Sprint(i)] = &critest.Box{UID: "u", Namespace: "qa", Name: "x", Host: true}
	}
	n.r.Start()
	t.Cleanup(func() { _ = n.pods.client.Close(); n.m.Close() })
	for range 2 {
		if err := n.pods.look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n.pods.most + 50 {
		n.pods.over(fmt.Sprint("other", i))
	}
	if len(n.pods.have) != n.pods.most || len(n.pods.ended) != n.pods.most {
		t.Errorf("%d sandboxes, %d that have ended", len(n.pods.have), len(n.pods.ended))
	}
}

// TestEnd: unlike Remove it leaves the rules.
func TestEnd(t *testing.T) {
	n := newNode(t)
	for _, key := range []string{"a", "b"} {
		ns, err := netns.Open(newNetNS(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.m.Add(t.Context(), steer.Pod{Key: key}, ns); err != nil {
			t.Fatal(err)
		}
	}
	n.m.End(t.Context(), "a")
	n.m.End(t.Context(), "a")
	if _, out := n.rules.counts(); out != 0 {
		t.Error("the rules are gone")
	}
	n.m.Remove(t.Context(), "b")
	if _, out := n.rules.counts(); out != 1 || len(n.m.Status()) != 0 {
		t.Error("the rules are there")
	}
	n.m.Close()
}
