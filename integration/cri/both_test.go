// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"context"
	"strings"
	"testing"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// plugin puts egret-cni into the network configuration, as is done on a node that has pods
// already.
func (w *world) plugin(t *testing.T) {
	t.Helper()
	w.c.network(t, `,{"type":"egret-cni"}`)
	waitFor(t, "containerd has read the plugin's configuration", func() bool {
		m, err := w.c.api.Status(t.Context(), &api.StatusRequest{Verbose: true})
		return err == nil && strings.Contains(m.GetInfo()["cniconfig"], "egret-cni")
	})
}

// TestBothSources: the runtime's list and the CNI plugin tell of the same pods, which are
// captured once; by the plugin before they start, and by the list if they were there first.
func TestBothSources(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		old, fresh, third := w.pods[0], w.pods[1], w.pods[2]
		old.make(t)
		w.runEgret(t)
		s := w.runSteer(t)
		w.awaitServed(t, old)
		w.plugin(t)
		fresh.make(t)
		fresh.works(t) // at once
		w.awaitServed(t, old, fresh)
		time.Sleep(2500 * time.Millisecond) // at least two looks
		steered := func(p *pod) int { return strings.Count(s.logged(), `"msg":"steering","pod":"qa/`+p.name) }
		if x := w.listed(t)["pod1"]; x.Key != fresh.sandbox || x.UID != fresh.uid || x.Error != "" || steered(fresh) != 1 {
			t.Errorf("%+v, steered %d times", x, steered(fresh))
		}
		if rules := fresh.nft(t); strings.Count(rules, "table ") != 1 {
			t.Errorf("rules:\n%s", rules)
		}
		old.works(t)
		fresh.end(t)
		old.end(t)
		waitFor(t, "both are forgotten", func() bool { return len(w.listed(t)) == 0 })
		if steered(fresh) != 1 || steered(old) != 1 || strings.Contains(s.logged(), `"level":"ERROR"`) {
			t.Errorf("%s", s.tail())
		}
		s.stop(t)
		w.failsToStart(t, third)
		s = w.runSteer(t)
		w.cleanUp(t)
		third.make(t)
		third.works(t)
		third.end(t)
	})
}

// failsToStart: with the plugin, and without egret steer, no pod starts.
func (w *world) failsToStart(t *testing.T, p *pod) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := w.c.api.RunPodSandbox(ctx, &api.RunPodSandboxRequest{Config: p.config()}); err == nil || !strings.Contains(err.Error(), "must not start") {
		t.Errorf("a pod has started without egret steer: %v", err)
	}
}

// cleanUp removes what has failed, as a kubelet does before it tries again.
func (w *world) cleanUp(t *testing.T) {
	t.Helper()
	m, err := w.c.api.ListPodSandbox(t.Context(), &api.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range m.GetItems() {
		(&pod{w: w, sandbox: x.GetId()}).end(t)
	}
}
