// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	api "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// each runs a test with every containerd.
func each(t *testing.T, test func(t *testing.T, w *world)) {
	for name, bin := range runtimes(t) {
		t.Run(name, func(t *testing.T) { test(t, newWorld(t, bin)) })
	}
}

// TestPods: those that there were before egret steer are captured, and those that come.
func TestPods(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		a, b, c := w.pods[0], w.pods[1], w.pods[2]
		a.make(t)
		b.make(t)
		w.runEgret(t)
		s := w.runSteer(t)
		w.awaitServed(t, a, b)
		a.works(t)
		b.works(t)
		c.makeSandbox(t, c.config())
		start := time.Now()
		w.awaitServed(t, a, b, c)
		t.Logf("a new pod is served %s after containerd has made it", time.Since(start).Round(time.Millisecond))
		want := map[string]string{"debian": "polled", "newer": "events"}[t.Name()[strings.Index(t.Name(), "/")+1:]]
		if src := w.source(t); src.State != want || !strings.HasPrefix(src.Runtime, "containerd ") {
			t.Errorf("%+v", src)
		}
		r := w.await(t, "a call", func(r record) bool { return r.Pod == "qa/pod0" && r.Verdict == "allow" })
		if r.Workload != a.id() || r.Evidence != "process" {
			t.Errorf("%+v", r)
		}
		if x := w.listed(t)["pod0"]; x.Key != a.sandbox || x.UID != a.uid || x.Namespace != "qa" || x.NetNS == 0 {
			t.Errorf("%+v", x)
		}
		if status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid)); !strings.Contains(string(status), "CapEff:\t0000000000201000\n") { // SYS_ADMIN, NET_ADMIN
			t.Errorf("egret steer is\n%s", status)
		}
		b.end(t)
		w.awaitServed(t, a, c)
		if files, _ := os.ReadDir(w.at("/run/egret-steer/pods")); len(files) != 2 {
			t.Errorf("%d pods are remembered", len(files))
		}
		text := w.sh(os.Getenv(egretVar), "steer", "list")
		for _, want := range []string{"qa/pod0 ", "qa/pod2 ", "cri unix://" + criSocket + ": in step with containerd "} {
			if !strings.Contains(text, want) {
				t.Errorf("egret steer list lacks %q:\n%s", want, text)
			}
		}
		if strings.Contains(s.logged(), `"level":"ERROR"`) {
			t.Errorf("%s", s.tail())
		}
		a.end(t)
		c.end(t)
	})
}

// TestRefused: pods in the node's own network, and sandboxes that no kubelet has made, are
// not captured, and it is said why.
func TestRefused(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		host, unnamed, other := w.pods[0], w.pods[1], w.pods[2]
		config := host.config()
		config.Linux.SecurityContext.NamespaceOptions.Network = api.NamespaceMode_NODE
		config.Hostname = "" // it is the node's
		host.makeSandbox(t, config)
		config = unnamed.config()
		config.Labels = nil
		unnamed.makeSandbox(t, config)
		config = other.config()
		config.Labels["io.kubernetes.pod.name"] = "admin"
		other.makeSandbox(t, config)
		w.runEgret(t)
		s := w.runSteer(t)
		for p, why := range map[*pod]string{host: "is in the host's network", unnamed: "it is no pod of a kubelet", other: `is "admin", and it was made as "pod2"`} {
			waitFor(t, p.name+" is refused", func() bool {
				x := w.listed(t)[p.name]
				return x.State == "refused" && strings.Contains(x.Error, why)
			})
			logged := slices.ContainsFunc(strings.Split(s.logged(), "\n"), func(line string) bool {
				return strings.Contains(line, "a pod is not steered") && strings.Contains(line, p.name)
			})
			if !logged {
				t.Errorf("%s is not logged", p.name)
			}
		}
		if rules := w.sh("nft", "list", "ruleset"); strings.Contains(rules, "egret") {
			t.Errorf("rules on the node itself:\n%s", rules)
		}
		for _, p := range []*pod{unnamed, other} {
			if rules := p.nft(t); rules != "" {
				t.Errorf("%s has rules:\n%s", p.name, rules)
			}
		}
		for _, p := range []*pod{host, unnamed, other} {
			p.end(t)
		}
		waitFor(t, "all are forgotten", func() bool { return len(w.listed(t)) == 0 })
	})
}
