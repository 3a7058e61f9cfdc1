// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// daemonsetOverlay: the images are on the node and in no registry, the agent's admin socket
// has a group of its own, as docs/spire.md has it, and there is one more file of policy,
// with one more secret.
const daemonsetOverlay = `resources: [../base]
namespace: egret
configMapGenerator: [{name: egret-policy-reports, files: [reports.yaml]}]
secretGenerator: [{name: egret-secrets-reports, files: [reports-token]}]
generatorOptions: {disableNameSuffixHash: true}
patches:
  - target: {kind: DaemonSet}
    patch: |-
      - {op: add, path: /spec/template/spec/initContainers/0/imagePullPolicy, value: Never}
      - {op: add, path: /spec/template/spec/containers/0/imagePullPolicy, value: Never}
      - {op: add, path: /spec/template/spec/containers/1/imagePullPolicy, value: Never}
      - {op: add, path: /spec/template/spec/securityContext/supplementalGroups, value: [64536]}
      - op: add
        path: /spec/template/spec/volumes/5/projected/sources/-
        value: {configMap: {name: egret-policy-reports, items: [{key: reports.yaml, path: policy/platform/reports.yaml}]}}
      - op: add
        path: /spec/template/spec/volumes/5/projected/sources/-
        value: {secret: {name: egret-secrets-reports, items: [{key: reports-token, path: secrets/reports-token}]}}
`

// reportsPolicy gives a workload of another namespace a credential of its own.
const reportsPolicy = `apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: monthly}
spec: {spiffeID: "spiffe://acme.example/ns/reports/sa/monthly", owner: reports@acme.example, purpose: counts the month's runs, environment: production}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: reports-token}
spec:
  owner: reports@acme.example
  environment: production
  destinations: [qase]
  usableBy: ["spiffe://acme.example/ns/reports/sa/monthly"]
  provider: {static: {value: {file: ../../secrets/reports-token}}}
  inject: [{header: Token, value: "{token}"}]
---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: monthly-reads-qase}
spec:
  owner: reports@acme.example
  workload: monthly
  destination: qase
  credential: reports-token
  allow: [{methods: [GET], paths: [/v1/project]}]
  expires: 2090-12-31
`

// ordinary is a pod that knows nothing of egret but whom to trust.
const ordinary = `apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s}
spec:
  serviceAccountName: %[3]s
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 1
  hostNetwork: %[4]t
  containers:
    - name: app
      image: registry.acme.example/client:latest
      imagePullPolicy: Never
      env: [{name: SSL_CERT_FILE, value: /etc/egret-trust/bundle.pem}]
      securityContext: {runAsNonRoot: true, runAsUser: 10001, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
      volumeMounts: [{name: trust, mountPath: /etc/egret-trust, readOnly: true}]
  volumes: [{name: trust, configMap: {name: egret-trust}}]
`

const projects = "https://api.qase.io/v1/project"

// hybrid: cgroup v1 is mounted beside v2.
var hybrid = []string{"process: {attestor: delegated}", "process: {attestor: delegated, hybrid: true}"}

func daemonset(t *testing.T, w *world) {
	w.accounts()
	w.pod("reports", "older", "monthly", false)
	w.started("reports", "older")
	w.lay("daemonset", hybrid...)
	w.write("examples/daemonset/overlay/reports.yaml", reportsPolicy)
	w.write("examples/daemonset/overlay/reports-token", w.out.monthly.Reveal()+"\n")
	w.apply("daemonset", daemonsetOverlay)
	w.rolledOut()
	w.chain()
	w.callers()
	for _, part := range []struct {
		name string
		run  func(*world)
	}{
		{"who is who", (*world).told}, {"killed", (*world).killed}, {"restart", (*world).restart}, {"policy", (*world).changed},
		{"older", (*world).older}, {"process", (*world).processes}, {"host", (*world).host}, {"gone", (*world).gone},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(w.within(t)) })
	}
}

// accounts makes the namespaces, those who run in them, and what they trust.
func (w *world) accounts() {
	w.t.Helper()
	for _, line := range []string{
		"create namespace egret", "label namespace egret pod-security.kubernetes.io/enforce=privileged", "create namespace reports",
		"-n egret create serviceaccount egret", "-n qa create serviceaccount weekly-report",
		"-n reports create serviceaccount monthly", "-n reports create serviceaccount late",
	} {
		w.kubectl(strings.Fields(line)...)
	}
	for _, namespace := range []string{"qa", "reports"} {
		trust := w.kubectl("-n", namespace, "create", "configmap", "egret-trust", "--from-file", w.file("once/trust/bundle.pem"), "--dry-run=client", "-o", "yaml")
		w.feed(trust, "apply", "--server-side", "--force-conflicts", "-f", "-")
	}
}

func (w *world) rolledOut() {
	w.t.Helper()
	if out := w.try(Program{Args: w.ctl("-n", "egret", "rollout", "status", "daemonset/egret", "--timeout=120s")}); out.Code != 0 {
		w.explain("egret")
		w.t.Fatal(out.Output)
	}
}

// chain puts the plugin behind the node's own, with the file of the example.
func (w *world) chain() {
	w.t.Helper()
	list, err := os.ReadFile("../../examples/daemonset/egret.conflist")
	w.must(err)
	w.inNode("/etc/cni/net.d/10-pods.conflist", string(list))
}

// callers are pods of three service accounts: with a credential each, but for the last.
func (w *world) callers() {
	w.t.Helper()
	pods := [][2]string{{"qa", "dashboard"}, {"reports", "monthly"}, {"qa", "weekly-report"}}
	for _, p := range pods {
		w.pod(p[0], p[1], p[1], false)
	}
	for _, p := range pods {
		w.started(p[0], p[1])
	}
}

func (w *world) pod(namespace, name, account string, hostNetwork bool) {
	w.t.Helper()
	w.feed(fmt.Sprintf(ordinary, namespace, name, account, hostNetwork), "apply", "-f", "-")
}

func (w *world) started(namespace, name string) {
	w.t.Helper()
	if out := w.try(Program{Args: w.ctl("-n", namespace, "wait", "--for=condition=Ready", "pod/"+name, "--timeout=120s")}); out.Code != 0 {
		w.explain(namespace)
		w.explain("egret")
		w.t.Fatal(out.Output)
	}
}

// from has a pod's program make requests.
func (w *world) from(namespace, name, method string, urls ...string) string {
	w.t.Helper()
	return w.try(Program{Args: w.ctl(append([]string{"-n", namespace, "exec", name, "--", "/program", method}, urls...)...)}).Output
}

// told: each pod gets its own credential, or the reason why it gets none.
func (w *world) told() {
	w.t.Helper()
	for _, p := range []struct{ namespace, name, key string }{
		{"qa", "dashboard", w.out.dashboard.Fingerprint()}, {"reports", "monthly", w.out.monthly.Fingerprint()},
	} {
		before := len(w.out.qase.Calls())
		has(w.t, p.name, w.from(p.namespace, p.name, "GET", projects), "status: 200")
		if calls := w.out.qase.Calls()[before:]; len(calls) != 1 || calls[0].Fingerprint != p.key {
			w.t.Errorf("%s: %+v, want the key %s", p.name, calls, p.key)
		}
	}
	before := len(w.out.qase.Calls())
	has(w.t, "a pod without a grant", w.from("qa", "weekly-report", "GET", projects), "status: 403\ndecision: policy; reason=")
	has(w.t, "a path that is not granted", w.from("reports", "monthly", "GET", "https://api.qase.io/v1/run/WEB"), "decision: policy; reason=path_not_allowed")
	has(w.t, "another's destination", w.from("reports", "monthly", "POST", "https://slack.com/api/chat.postMessage"), "status: 403\ndecision: policy; reason=")
	if calls := w.out.qase.Calls()[before:]; len(calls) != 0 {
		w.t.Errorf("refused calls arrived: %+v", calls)
	}
	has(w.t, "records", w.words("egret", "daemonset/egret", "egret"), `"pod":"qa/dashboard"`, `"pod":"reports/monthly"`, `"pod":"qa/weekly-report"`, `"evidence":"process"`)
}

// restart: while egret's pod is away nothing leaves, no pod starts, and all goes on when it
// is back.
func (w *world) restart() {
	w.t.Helper()
	w.kubectl("-n", "egret", "patch", "daemonset", "egret", "--type=json", "-p", `[{"op": "add", "path": "/spec/template/spec/nodeSelector", "value": {"no": "node"}}]`)
	w.kubectl("-n", "egret", "wait", "--for=delete", "pod", "-l", "app=egret", "--timeout=120s")
	before := len(w.out.qase.Calls())
	has(w.t, "without egret", w.from("qa", "dashboard", "GET", projects), "error: ", "connection refused")
	w.pod("reports", "late", "late", false)
	w.await("the plugin to refuse a pod", func() bool {
		return strings.Contains(w.kubectl("-n", "reports", "get", "events"), "egret does not capture the pod")
	})
	if calls := w.out.qase.Calls()[before:]; len(calls) != 0 {
		w.t.Errorf("calls arrived without egret: %+v", calls)
	}
	begin := time.Now()
	w.kubectl("-n", "egret", "patch", "daemonset", "egret", "--type=json", "-p", `[{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]`)
	w.rolledOut()
	w.t.Logf("egret is back after %s", time.Since(begin).Round(100*time.Millisecond))
	w.await("a pod that was there before to be served", func() bool { return strings.Contains(w.from("qa", "dashboard", "GET", projects), "status: 200") })
	w.started("reports", "late")
	has(w.t, "nobody's pod", w.from("reports", "late", "GET", projects), "remote error: tls: access denied")
	has(w.t, "its record", w.words("egret", "daemonset/egret", "egret"), `"pod":"reports/late"`, `"layer":"identity"`)
}

// killed: egret alone ends. What connects meanwhile waits in the sockets that steer holds.
func (w *world) killed() {
	w.t.Helper()
	w.run("kill", "-9", w.pidOf("egret", "egret"))
	begun := time.Now()
	has(w.t, "while egret starts again", w.from("qa", "dashboard", "GET", projects), "status: 200")
	w.t.Logf("killed, egret has answered after %s", time.Since(begun).Round(100*time.Millisecond))
}

// changed: a change of the ConfigMap is followed by the egret that runs.
func (w *world) changed() {
	w.t.Helper()
	was := at(w.pods("egret", "app=egret")[0], "metadata", "name")
	w.write("examples/daemonset/overlay/reports.yaml", strings.Replace(reportsPolicy, "paths: [/v1/project]", "paths: [/v1/run/**]", 1))
	w.apply("daemonset", daemonsetOverlay)
	w.await("the new policy", func() bool {
		return strings.Contains(w.from("reports", "monthly", "GET", projects), "reason=path_not_allowed")
	})
	has(w.t, "the new policy", w.from("reports", "monthly", "GET", "https://api.qase.io/v1/run/WEB"), "status: 200")
	if is := at(w.pods("egret", "app=egret")[0], "metadata", "name"); is != was {
		w.t.Errorf("the pod is another: %s, %s", was, is)
	}
}

// older: a pod from before the plugin is captured when steer may ask the container runtime.
func (w *world) older() {
	w.t.Helper()
	has(w.t, "before", w.from("reports", "older", "GET", projects), "certificate signed by unknown authority")
	w.lay("daemonset", append(hybrid, "# patches: [{path: cri.yaml", "patches: [{path: cri.yaml")...)
	w.apply("daemonset", daemonsetOverlay)
	w.rolledOut()
	w.await("the older pod to be captured", func() bool {
		return strings.Contains(w.from("reports", "older", "GET", "https://api.qase.io/v1/run/WEB"), "status: 200")
	})
	if calls := w.out.qase.Calls(); calls[len(calls)-1].Fingerprint != w.out.monthly.Fingerprint() {
		w.t.Errorf("the older pod was given %+v", calls[len(calls)-1])
	}
}

// processes: the privileges of those that run, what they have used of their limits, and
// what the kubelet has found when it probed them.
func (w *world) processes() {
	w.t.Helper()
	for name, want := range map[string]string{"egret": "0000000000000000", "steer": "0000000000201000"} {
		pid := w.pidOf("egret", name)
		has(w.t, name, w.run("cat", "/proc/"+pid+"/status"), "CapEff:\t"+want, "CapBnd:\t"+want, "NoNewPrivs:\t1", "Seccomp:\t2")
		w.t.Logf("%s: %s", name, w.memory(pid))
	}
	w.t.Logf("the whole node: %s", w.memory("1"))
	for _, kind := range []string{"Startup", "Readiness", "Liveness"} {
		w.await("a "+kind+" probe of egret that succeeds", func() bool { return w.probed(kind) })
	}
}

// probed: the kubelet says that a probe of egret has succeeded.
func (w *world) probed(kind string) bool {
	w.t.Helper()
	for line := range strings.Lines(w.kubectl("get", "--raw", "/api/v1/nodes/"+nodeName+"/proxy/metrics/probes")) {
		if strings.HasPrefix(line, `prober_probe_total{container="egret",namespace="egret"`) && strings.Contains(line, `probe_type="`+kind+`",result="successful"`) {
			return true
		}
	}
	return false
}

// memory is the most that a process' cgroup has used, of what it may.
func (w *world) memory(pid string) string {
	w.t.Helper()
	return w.run("sh", "-c", `g=/sys/fs/cgroup/memory$(sed -n 's/^[0-9]*:memory://p' "/proc/$0/cgroup")
		echo "at most $(($(cat "$g/memory.max_usage_in_bytes") >> 20)) MiB, limit $(($(cat "$g/memory.limit_in_bytes") >> 20)) MiB, failed $(cat "$g/memory.failcnt")"`, pid)
}

// host: a pod in the node's network is not captured, and gets no credential.
func (w *world) host() {
	w.t.Helper()
	w.kubectl("-n", "qa", "delete", "pod", "weekly-report")
	w.pod("qa", "weekly-report", "weekly-report", true)
	w.started("qa", "weekly-report")
	has(w.t, "in the node's network", w.from("qa", "weekly-report", "GET", projects), "certificate signed by unknown authority")
	w.await("the reason", func() bool { return strings.Contains(w.steered(), "pod qa/weekly-report is in the host's network") })
}

// pidOf is the first process of a container.
func (w *world) pidOf(namespace, container string) string {
	w.t.Helper()
	for _, c := range at(w.pods(namespace, "app=egret")[0], "status", "containerStatuses").([]any) {
		if at(c, "name") == container {
			id := strings.TrimPrefix(at(c, "containerID").(string), "containerd://")
			return strings.TrimSpace(w.run("sh", "-c", `ctr -n k8s.io tasks ls | while read -r id pid rest; do [ "$id" = "$0" ] && echo "$pid"; done; true`, id))
		}
	}
	w.t.Fatalf("no container %s", container)
	return ""
}

// gone: pods in the node's network are refused, and pods that end leave nothing.
func (w *world) gone() {
	w.t.Helper()
	w.run("sh", "-c", "touch /run/netns/host && mount --bind /proc/1/ns/net /run/netns/host")
	out := w.plugin("ADD", "host")
	has(w.t, "the node's network", out.Output, "egret does not capture the pod", "pod qa/host is in the host's network")
	if out.Code == 0 || w.plugin("DEL", "host").Code != 0 { // as a runtime calls it after an ADD that failed
		w.t.Errorf("ADD of the node's network: %+v", out)
	}
	w.kubectl("-n", "qa", "delete", "pod", "dashboard", "weekly-report")
	w.kubectl("-n", "reports", "delete", "pod", "monthly", "late", "older")
	if left := w.run("ls", "/run/egret-steer/pods"); left != "" {
		w.t.Errorf("state of pods that are gone: %s", left)
	}
	w.await("nothing to be steered", func() bool { return !strings.Contains(w.steered(), "served") })
}

// steered is what egret steer says of each pod.
func (w *world) steered() string {
	w.t.Helper()
	return w.kubectl("-n", "egret", "exec", "daemonset/egret", "-c", "steer", "--", "/usr/local/bin/egret", "steer", "list")
}

// plugin calls the plugin that the DaemonSet has installed, as a runtime does.
func (w *world) plugin(command, name string) Ended {
	w.t.Helper()
	return w.try(Program{Args: []string{
		"env", "CNI_COMMAND=" + command, "CNI_CONTAINERID=" + name, "CNI_NETNS=/var/run/netns/" + name, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=K8S_POD_NAMESPACE=qa;K8S_POD_NAME=" + name + ";K8S_POD_UID=11111111-2222-3333-4444-555555555555", "/opt/cni/bin/egret-cni",
	}, Input: `{"cniVersion": "1.0.0", "name": "pods", "type": "egret-cni", "prevResult": {"cniVersion": "1.0.0"}}`})
}
