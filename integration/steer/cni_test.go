// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cni calls the binary as a container runtime does: under the plugin's name, with the
// variables of the CNI specification and the configuration on standard input.
func (w *world) cni(t *testing.T, command string, p *pod, uid string) (code int, out string) {
	t.Helper()
	plugin := w.file("egret-cni")
	if _, err := os.Lstat(plugin); err != nil {
		if err := os.Symlink(os.Getenv(egretVar), plugin); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(plugin)
	cmd.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + p.sandbox(), "CNI_NETNS=" + p.source(), "CNI_IFNAME=eth0", "CNI_PATH=" + filepath.Dir(plugin), "PATH=/usr/bin:/bin",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=qa;K8S_POD_NAME=" + p.name() + ";K8S_POD_INFRA_CONTAINER_ID=" + p.sandbox() + ";K8S_POD_UID=" + uid,
	}
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`{"cniVersion":"1.0.0","name":"pods","type":"egret-cni","control":%q,
		"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":%q}],"ips":[{"address":"10.66.%d.2/24","interface":0}]}}`, w.control(), p.source(), p.n))
	text, err := cmd.Output()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(text)
}

func (p *pod) sandbox() string { return fmt.Sprintf("%064d", p.n) }

// uid names a pod whose containers are in the pod's cgroup; see inKubernetes.
func (p *pod) podUID() string { return fmt.Sprintf("%08d-2222-3333-4444-555555555555", p.n) }

// inKubernetes moves the pod's workload to a cgroup as the kubelet makes it.
func (p *pod) inKubernetes(t *testing.T) {
	t.Helper()
	for _, part := range []string{"/kubepods", "/pod" + p.podUID(), "/container"} {
		p.cgroup += part
		makeCgroup(t, p.cgroup)
	}
}

// fault is what a plugin says when it fails.
func fault(t *testing.T, out string) (code int, text string) {
	t.Helper()
	var f struct {
		Code         int
		Msg, Details string
	}
	if err := json.Unmarshal([]byte(out), &f); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return f.Code, f.Msg + ": " + f.Details
}

// TestCNI: the plugin's life. A pod does not start before it is served, and not at all where
// it is not; what egret steer was told outlives it; and the pod's UID is held to the cgroup's.
func TestCNI(t *testing.T) {
	w := newWorld(t)
	p, q := w.pods[0], w.pods[1]
	p.inKubernetes(t)
	q.inKubernetes(t)
	code, out := w.cni(t, "ADD", p, p.podUID())
	if n, text := fault(t, out); code == 0 || n != 100 || !strings.Contains(text, "must not start") {
		t.Errorf("ADD without egret steer: %d %s", code, out)
	}
	s := w.runSteer(t)
	start := time.Now()
	code, out = w.cni(t, "ADD", p, p.podUID())
	if n, text := fault(t, out); code == 0 || n != 100 || !strings.Contains(text, "no egret run has taken") {
		t.Errorf("ADD without egret run: %d %s", code, out)
	}
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if code, out := w.cni(t, "DEL", p, p.podUID()); code != 0 || out != "" {
		t.Errorf("DEL: %d %s", code, out)
	}
	w.runEgret(t)
	for _, x := range []*pod{p, q} {
		if code, out := w.cni(t, "ADD", x, x.podUID()); code != 0 || !strings.Contains(out, fmt.Sprintf("10.66.%d.2/24", x.n)) {
			t.Fatalf("ADD: %d %s", code, out)
		}
		if o := x.begin(t, task{Total: 1}).wait(t, time.Minute); o.OK != 1 { // at once: it is served
			t.Errorf("%s: %+v", x.name(), o)
		}
	}
	w.arrivals.HoldOwn(t, 2)
	if list := sh(t, os.Getenv(egretVar), "steer", "list", "--control", w.control()); strings.Count(list, "served") != 2 || !strings.Contains(list, "qa/pod0") {
		t.Errorf("egret steer list:\n%s", list)
	}
	w.mixed(t, p, q)
	s = w.again(t, s, p)
	if code, out := w.cni(t, "DEL", q, ""); code != 0 {
		t.Errorf("DEL: %d %s", code, out)
	}
	for range 2 { // runtimes call it more than once
		if code, out := w.cni(t, "DEL", q, ""); code != 0 {
			t.Errorf("DEL again: %d %s", code, out)
		}
	}
	if code, out := w.cni(t, "CHECK", q, ""); code == 0 {
		t.Errorf("CHECK of a pod that is gone: %s", out)
	}
	if rules := sh(t, "ip", "netns", "exec", q.ns, "nft", "list", "ruleset"); rules != "" {
		t.Errorf("rules are left:\n%s", rules)
	}
	left, _ := filepath.Glob(w.file("run/pods/*"))
	if len(left) != 1 {
		t.Errorf("state of pods: %v", left)
	}
	s.stop(t)
	w.packets.holdNone(t)
}

// mixed: a process of one pod's cgroup in the other's network namespace is nobody, and so is
// one of no pod's.
func (w *world) mixed(t *testing.T, p, q *pod) {
	t.Helper()
	for what, x := range map[string]*pod{
		"another pod's cgroup": {w: w, n: p.n, ns: q.ns, netns: q.netns, cgroup: p.cgroup},
		"no pod's cgroup":      {w: w, n: 5, ns: q.ns, netns: q.netns, cgroup: w.pods[5].cgroup},
	} {
		if o := x.begin(t, task{Total: 1, Path: "/public/" + q.name() + "/x"}).wait(t, time.Minute); o.OK != 0 {
			t.Errorf("%s: %+v", what, o)
		}
	}
	if list := w.arrivals.Take(); len(list) != 0 {
		t.Errorf("it arrived: %+v", list)
	}
	w.await(t, "the mixed pods", func(r record) bool { return r.Pod == "qa/"+q.name() && r.Verdict == "deny" && r.Layer == "identity" })
}

// again restarts egret steer, which finds the pod by its state.
func (w *world) again(t *testing.T, s *program, p *pod) *program {
	t.Helper()
	s.kill(t)
	if code, out := w.cni(t, "CHECK", p, ""); code == 0 {
		t.Errorf("CHECK without egret steer: %s", out)
	}
	if o := p.begin(t, task{Total: 1}).wait(t, time.Minute); o.OK != 1 {
		t.Errorf("without egret steer: %+v", o)
	}
	s = w.runSteer(t)
	w.awaitServed(t, 2)
	if code, out := w.cni(t, "CHECK", p, ""); code != 0 || out != "" {
		t.Errorf("CHECK: %d %s", code, out)
	}
	if o := p.begin(t, task{Total: 1}).wait(t, time.Minute); o.OK != 1 {
		t.Errorf("with the new egret steer: %+v", o)
	}
	w.arrivals.HoldOwn(t, 2)
	return s
}
