// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// ruleset is every rule of a pod, of all three programs.
func (p *pod) ruleset(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, argv := range [][]string{{"nft", "list", "ruleset"}, {"iptables-legacy-save"}, {"ip6tables-legacy-save"}} {
		all.WriteString(sh(t, append([]string{"nsenter", "--net=" + p.source()}, argv...)...))
	}
	return regexp.MustCompile(`\[\d+:\d+\]|packets \d+ bytes \d+|(?m)^# .*$`).ReplaceAllString(all.String(), "")
}

// TestOthersInThePod: where Istio redirects, by either iptables, nothing is changed and the
// reason is told; where a process of the pod has taken the port, that is told; and once what
// was in the way is gone, the pod is served without being asked for again.
func TestOthersInThePod(t *testing.T) {
	w := newWorld(t)
	nft, legacy, taken, fine := w.pods[0], w.pods[1], w.pods[2], w.pods[3]
	for p, program := range map[*pod]string{nft: "iptables-nft", legacy: "iptables-legacy"} {
		for _, argv := range [][]string{{"-N", "ISTIO_OUTPUT"}, {"-A", "ISTIO_OUTPUT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", "15001"}} {
			sh(t, append([]string{"nsenter", "--net=" + p.source(), program, "-t", "nat"}, argv...)...)
		}
	}
	before := map[*pod]string{nft: nft.ruleset(t), legacy: legacy.ruleset(t)}
	l, err := taken.netns.Listen(t.Context(), "tcp", "127.0.0.1:8651")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w.runEgret(t)
	s := w.runSteer(t, w.folder()...)
	for _, p := range w.pods[:4] {
		p.mount(t)
	}
	waitFor(t, "the pod that nothing is in the way of is served", func() bool { return w.listed(t)[fine.name()] == "served" })
	failed := func(p *pod, want string) {
		t.Helper()
		waitFor(t, p.name()+" has failed with "+want, func() bool {
			state := w.listed(t)[p.name()]
			return strings.HasPrefix(state, "failed") && strings.Contains(state, want)
		})
	}
	failed(nft, "Istio")
	failed(legacy, "--keep-cap net_raw") // it cannot be looked at without
	failed(taken, "port is taken")
	s.stop(t)
	w.runSteer(t, append(w.folder(), "--keep-cap", "net_raw")...)
	failed(nft, "Istio")
	failed(legacy, "Istio")
	failed(taken, "port is taken")
	for p, rules := range before {
		if now := p.ruleset(t); now != rules {
			t.Errorf("beside Istio:\n%s\nbefore:\n%s", now, rules)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the pod whose port was taken is served", func() bool { return w.listed(t)[taken.name()] == "served" })
	if o := taken.begin(t, task{Total: 2}).wait(t, time.Minute); o.OK != 2 {
		t.Errorf("%+v", o)
	}
	w.arrivals.HoldOwn(t, 2)
	w.packets.holdNone(t)
}
