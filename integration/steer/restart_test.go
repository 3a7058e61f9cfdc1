// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// hammers start a workload without an end in each pod, and wait until all are served.
func (w *world) hammers(t *testing.T) (all []*workload, done func() int64) {
	t.Helper()
	for _, p := range w.pods {
		all = append(all, p.begin(t, task{Tell: true}))
	}
	sum := func() (n int64) {
		for _, x := range all {
			n += x.oks.Load()
		}
		return n
	}
	waitFor(t, "every pod is served", func() bool {
		return !slices.ContainsFunc(all, func(x *workload) bool { return x.oks.Load() == 0 })
	})
	return all, sum
}

// TestEgretKilledUnderLoad: while egret run is gone nothing leaves a pod and nobody is
// refused: who connects then waits, and is served when it is back, within a second.
func TestEgretKilledUnderLoad(t *testing.T) {
	w, e, _ := newNode(t)
	loads, sum := w.hammers(t)
	var took []time.Duration
	for range 3 {
		e.kill(t)
		time.Sleep(200 * time.Millisecond) // what was in flight is gone
		before, refused := sum(), w.pods[4].begin(t, task{Total: 20, Parallel: 20})
		time.Sleep(300 * time.Millisecond)
		if n := sum(); n != before {
			t.Errorf("%d calls succeeded without egret", n-before)
		}
		start := time.Now()
		e = w.runEgret(t)
		waitFor(t, "a call succeeds again", func() bool { return sum() > before })
		took = append(took, time.Since(start))
		if o := refused.wait(t, 30*time.Second); o.OK != 20 {
			t.Errorf("of 20 connections that were made without egret: %+v", o)
		}
	}
	slices.Sort(took)
	t.Logf("served again %v after its start", took)
	if took[0] > time.Second { // the others may meet a busy machine
		t.Errorf("it took %v", took)
	}
	w.endAll(t, loads, 3) // what egret had accepted when it was killed
	w.packets.holdNone(t)
}

// endAll ends workloads of which so many calls each may have failed, and checks whose keys
// they were given.
func (w *world) endAll(t *testing.T, loads []*workload, may int64) {
	t.Helper()
	for i, x := range loads {
		if o := x.end(); o.Failed > may || o.OK == 0 {
			t.Errorf("pod%d: %+v", i, o)
		}
	}
	w.arrivals.HoldOwn(t, 1)
}

// TestSteerKilledUnderLoad: without egret steer, open connections and new ones go on; when
// it is back, all is as it was. A pod that has gone from the folder meanwhile is not served
// any more, and stays captured; one that goes while egret steer is there has its rules removed.
func TestSteerKilledUnderLoad(t *testing.T) {
	w, _, s := newNode(t)
	loads, sum := w.hammers(t)
	slow := exec.Command("curl", "-sSN4", "https://"+hosts()[0]+"/public/pod7/slow")
	lines := w.pods[7].watch(t, slow)
	waitFor(t, "the long answer begins", func() bool { return lines.Load() > 2 })
	for range 3 {
		s.kill(t)
		before, said := sum(), lines.Load()
		waitFor(t, "calls succeed without egret steer", func() bool { return sum() > before+20 && lines.Load() > said+2 })
		unbind(w.pods[9].file())
		s = w.runSteer(t, w.folder()...)
		w.awaitServed(t, podCount-1)
		before, said = sum(), lines.Load()
		waitFor(t, "calls succeed with the new egret steer", func() bool { return sum() > before+20 && lines.Load() > said+2 })
		w.pods[9].mount(t)
		w.awaitServed(t, podCount)
	}
	w.packets.holdNone(t)
	unbind(w.pods[9].file()) // now its rules are removed, and its packets seen
	waitFor(t, "a pod that is not steered is not captured", func() bool { past, _ := w.packets.count(); return past > 0 })
	w.endAll(t, loads[:9], 0)
	loads[9].end()
	_ = slow.Process.Kill()
}

// watch runs a client in the pod and counts what it prints.
func (p *pod) watch(t *testing.T, cmd *exec.Cmd) *atomic.Int64 {
	t.Helper()
	id := fmt.Sprint(p.uid())
	argv := append([]string{"ip", "netns", "exec", p.ns, "setpriv", "--reuid", id, "--regid", id, "--clear-groups"}, cmd.Args...)
	path, err := exec.LookPath("ip")
	if err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args, cmd.Err = path, argv, nil
	cmd.Env = append(os.Environ(), "CURL_CA_BUNDLE="+p.w.file("trust/bundle.pem"))
	p.as(t, cmd)
	n := new(atomic.Int64)
	cmd.Stdout = counter{n}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return n
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(1)
	return len(b), nil
}

// TestBothKilled: nothing leaves a pod while neither is there, and whichever comes back
// first, pods are served again.
func TestBothKilled(t *testing.T) {
	w, e, s := newNode(t)
	p := w.pods[0]
	for round := range 2 {
		e.kill(t)
		s.kill(t)
		if code, out := p.call(t, "curl", "-sS4", "--max-time", "2", "https://"+hosts()[0]+"/public/pod0/x"); code == 0 {
			t.Errorf("without both: %s", out)
		}
		if round == 0 {
			s = w.runSteer(t, w.folder()...)
			e = w.runEgret(t)
		} else {
			e = w.runEgret(t)
			s = w.runSteer(t, w.folder()...)
		}
		w.awaitServed(t, podCount)
		for _, p := range w.pods {
			if o := p.begin(t, task{Total: 2}).wait(t, time.Minute); o.OK != 2 {
				t.Errorf("%s: %+v", p.name(), o)
			}
		}
	}
	w.arrivals.HoldOwn(t, 4*podCount)
	w.packets.holdNone(t)
}

// TestGracefulEnd: ended by SIGTERM and started anew, neither loses a call.
func TestGracefulEnd(t *testing.T) {
	w, e, s := newNode(t)
	loads, sum := w.hammers(t)
	for range 2 {
		e.stop(t)
		e = w.runEgret(t)
		before := sum()
		waitFor(t, "calls succeed", func() bool { return sum() > before+20 })
		s.stop(t)
		s = w.runSteer(t, w.folder()...)
		w.awaitServed(t, podCount)
	}
	w.endAll(t, loads, 0)
	w.packets.holdNone(t)
}

// TestHostNetwork: the node's own namespace is refused with its reason, under whatever name,
// and one namespace is not steered under two.
func TestHostNetwork(t *testing.T) {
	w, _, s := newNode(t)
	bind(t, "/run/netns/"+w.host, w.file("netns/host"))
	waitFor(t, "the node's namespace is refused", func() bool { return strings.Contains(s.logged(), "is in the host's network") })
	if state, ok := w.listed(t)["host"]; ok {
		t.Errorf("it is listed: %s", state)
	}
	if out := w.onNode(t, "nft", "list", "ruleset"); strings.Contains(out, "egret") {
		t.Errorf("rules in the node's own namespace:\n%s", out)
	}
	bind(t, w.pods[0].source(), w.file("netns/again"))
	waitFor(t, "a namespace under two names is refused", func() bool { return strings.Contains(s.logged(), "shares its network namespace") })
	text := sh(t, os.Getenv(egretVar), "steer", "list", "--control", w.control())
	if strings.Count(text, "served") != podCount || !strings.Contains(text, "pod9") {
		t.Errorf("egret steer list:\n%s", text)
	}
}

func (w *world) onNode(t *testing.T, argv ...string) string {
	t.Helper()
	return sh(t, append([]string{"nsenter", "--net=/run/netns/" + w.host}, argv...)...)
}

// TestLoop: where egret run has been started in a namespace that is steered, its own
// connections are not served by itself: they are refused at once, counted, and told; other
// namespaces are served, though nothing can leave for them.
func TestLoop(t *testing.T) {
	for _, mode := range []string{"redirect", "tproxy"} {
		t.Run(mode, func(t *testing.T) { loop(t, mode) })
	}
}

func loop(t *testing.T, mode string) {
	w := newWorld(t)
	w.pods[0].mount(t)
	bind(t, "/run/netns/"+w.host, w.file("netns/node"))
	outside := w.start(t, "steering", w.out, w.steer(append(w.folder(), "--mode", mode)...)...)
	w.runEgret(t)
	waitFor(t, "the loop is refused", func() bool { return strings.Contains(w.listed(t)["node"], "is the one that egret run itself is in") })
	waitFor(t, "the other is served", func() bool { return w.listed(t)["pod0"] == "served" })
	start := time.Now()
	if o := w.pods[0].begin(t, task{Total: 1}).wait(t, time.Minute); o.OK != 0 || o.Failed != 1 {
		t.Errorf("%+v", o)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	metrics := w.onNode(t, "curl", "-sS", "http://127.0.0.1:8633/metrics")
	for _, want := range []string{`egret_steer_refused_total{listener="pods",of="connection",reason="loop"} `, `egret_steer_pods{listener="pods"} 1`} {
		if !strings.Contains(metrics, want) || strings.Contains(metrics, want+"0\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if ready := w.onNode(t, "curl", "-sS", "http://127.0.0.1:8633/readyz?verbose"); !strings.Contains(ready, "egret run itself is in") {
		t.Errorf("readiness does not tell: %s", ready)
	}
	_, own := w.packets.count()
	if list := w.arrivals.Take(); len(list) != 0 || own != 0 {
		t.Errorf("something left: %+v, %d", list, own)
	}
	outside.stop(t)
}
