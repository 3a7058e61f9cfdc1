// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestRuntimeKilled: without the container runtime, and with it again, open connections and
// new ones go on; an egret steer that is started meanwhile finds its pods all the same.
func TestRuntimeKilled(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		slow, busy, idle, late := w.pods[0], w.pods[1], w.pods[2], w.pods[3]
		w.runEgret(t)
		s := w.runSteer(t)
		slow.make(t, "stream", slow.url()+"/slow", "/out/lines")
		busy.make(t, "hammer", busy.url()+"/x", "/out/lines")
		idle.make(t)
		w.awaitServed(t, slow, busy, idle)
		slow.begin(t, "lines")
		busy.begin(t, "lines")
		goOn := func() {
			t.Helper()
			slow.goesOn(t, "lines")
			busy.goesOn(t, "lines")
		}
		w.c.kill(t)
		waitFor(t, "the runtime is away", func() bool { return w.source(t).State == "away" })
		w.awaitServed(t, slow, busy, idle)
		goOn()
		if !strings.Contains(s.logged(), "pods that are captured stay so") {
			t.Errorf("it is not logged:\n%s", s.tail())
		}
		if text := w.sh(os.Getenv(egretVar), "steer", "list"); !strings.Contains(text, "away since ") || strings.Count(text, "served") != 3 {
			t.Errorf("egret steer list:\n%s", text)
		}
		s.kill(t)
		goOn()
		w.runSteer(t)
		w.awaitServed(t, slow, busy, idle)
		goOn()
		w.c.start(t)
		waitFor(t, "egret steer is in step again", func() bool { return w.source(t).State != "away" })
		w.c.awaitReady(t)
		w.awaitServed(t, slow, busy, idle)
		late.make(t)
		idle.end(t)
		w.awaitServed(t, slow, busy, late)
		goOn()
		w.ends(t, slow, busy)
		w.arrivals.HoldOwn(t, 20)
		late.works(t)
	})
}

// ends checks that a stream was one to the end, and that no call has failed.
func (w *world) ends(t *testing.T, slow, busy *pod) {
	t.Helper()
	if hellos := strings.Count(strings.Join(slow.lines("lines"), "\n"), "hello"); hellos != 1 {
		t.Errorf("the stream began %d times", hellos)
	}
	for _, line := range busy.lines("lines") {
		if line != "ok" && line != "" {
			t.Errorf("a call: %s", line)
		}
	}
	slow.end(t)
	busy.end(t)
}

// TestSteerAway: a pod that ends while egret steer is not there is forgotten by the next one.
func TestSteerAway(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b := w.pods[0], w.pods[1]
		a.make(t)
		b.make(t)
		w.runEgret(t)
		s := w.runSteer(t)
		w.awaitServed(t, a, b)
		s.kill(t)
		a.works(t)
		b.end(t)
		s = w.runSteer(t)
		w.awaitServed(t, a)
		waitFor(t, "the state is that of one pod", func() bool {
			files, _ := os.ReadDir(w.at("/run/egret-steer/pods"))
			return len(files) == 1 && len(w.listed(t)) == 1
		})
		a.works(t)
		s.stop(t)
		a.works(t)
		if rules := a.nft(t); !strings.Contains(rules, "egret") {
			t.Errorf("the rules of a pod are gone with egret steer:\n%s", rules)
		}
	})
}

// TestComeAndGo: after pods have come and gone, egret steer holds what it held before.
func TestComeAndGo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.runEgret(t)
		s := w.runSteer(t)
		stay := w.pods[0]
		stay.make(t)
		w.awaitServed(t, stay)
		before := s.descriptors()
		for range 3 {
			for _, p := range w.pods[1:] {
				p.makeSandbox(t, p.config())
			}
			w.awaitServed(t, w.pods...)
			for _, p := range w.pods[1:] {
				p.end(t)
			}
			w.awaitServed(t, stay)
		}
		for range 10 { // gone before anybody has looked, or while somebody does
			p := w.pods[1]
			p.makeSandbox(t, p.config())
			p.end(t)
		}
		waitFor(t, "only one pod is known", func() bool { return len(w.listed(t)) == 1 })
		waitFor(t, "what is held is what was held", func() bool { return s.descriptors() <= before })
		stay.works(t)
		if strings.Contains(s.logged(), `"level":"ERROR"`) {
			t.Errorf("%s", s.tail())
		}
	})
}

func (p *program) descriptors() int {
	list, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	return len(list)
}
