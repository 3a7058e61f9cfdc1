// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"strings"
	"testing"
)

// sidecarOverlay: the images are on the node and in no registry, and the agent's socket
// comes from the node's folder, since there is no CSI driver.
const sidecarOverlay = `resources: [../base]
patches:
  - target: {kind: CronJob}
    patch: |-
      - {op: add, path: /spec/jobTemplate/spec/template/spec/initContainers/0/imagePullPolicy, value: Never}
      - {op: add, path: /spec/jobTemplate/spec/template/spec/containers/0/imagePullPolicy, value: Never}
      - {op: replace, path: /spec/jobTemplate/spec/template/spec/volumes/0, value: {name: spiffe, hostPath: {path: /run/spire/agent, type: Directory}}}
`

func sidecar(t *testing.T, w *world) {
	w.lay("sidecar")
	w.restricted("sidecar")
	w.apply("sidecar", sidecarOverlay)
	w.job("sidecar", "complete", func(object) {})
	w.dashboardDone("sidecar")
	w.job("sidecar-refused", "complete", calls("POST", "https://api.qase.io/v1/project", "https://slack.com/api/users.list", "https://example.com/"))
	got := w.words("qa", "job/sidecar-refused", "dashboard")
	has(t, "refused", got, "status: 403\ndecision: policy; reason=method_not_allowed", "status: 403\ndecision: policy; reason=path_not_allowed", "egret target/unlisted_host")
}

// calls has the job's program replaced by one that makes requests, as anybody can who may
// change the CronJob's image.
func calls(method string, urls ...string) func(pod object) {
	return func(pod object) {
		c := at(pod, "containers", 0).(object)
		c["image"], c["args"] = "registry.acme.example/client:latest", append([]string{method}, urls...)
	}
}

// dashboardDone checks what the nightly job has done, and as whom.
func (w *world) dashboardDone(job string) {
	w.t.Helper()
	has(w.t, "the job", w.words("qa", "job/"+job, "dashboard"), "read from Qase:", "posted to Slack: #qa")
	has(w.t, "egret's records", w.words("qa", "job/"+job, "egret"), `"workload":"`+dashboardID+`"`, `"credential":"qase-token"`, `"credential":"slack-bot"`, `"caller_credential":"none"`)
	for _, c := range w.out.qase.Calls() {
		if c.Fingerprint != w.out.dashboard.Fingerprint() {
			w.t.Errorf("%s %s came with %q", c.Method, c.Path, c.Fingerprint)
		}
	}
	logins := w.out.oauth.Logins()
	if len(logins) == 0 || logins[len(logins)-1].Subject.String() != dashboardID || len(w.out.slack.Messages()) == 0 {
		w.t.Errorf("logins %+v, %d messages", logins, len(w.out.slack.Messages()))
	}
	for _, c := range at(w.pods("qa", "job-name="+job)[0], "status", "initContainerStatuses").([]any) {
		if at(c, "restartCount") != 0.0 || at(c, "state", "terminated", "exitCode") != 0.0 {
			w.t.Errorf("a container did not start once and end well: %v", c)
		}
	}
}

// pods are those of a namespace with a label.
func (w *world) pods(namespace, label string) []any {
	w.t.Helper()
	list := at(w.get("-n", namespace, "pods", "-l", label), "items").([]any)
	if len(list) == 0 {
		w.t.Fatalf("no pod %s in %s", label, namespace)
	}
	return list
}

// restricted holds an example, as it is, to the strictest of Kubernetes' pod security
// standards, with SPIFFE's CSI driver declared as it says itself.
func (w *world) restricted(example string) {
	w.t.Helper()
	w.feed(`{"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": "csi.spiffe.io",
		"labels": {"security.kubernetes.io/csi-ephemeral-volume-profile": "restricted"}}, "spec": {"attachRequired": false, "podInfoOnMount": true, "volumeLifecycleModes": ["Ephemeral"]}}`,
		"apply", "-f", "-")
	label := func(level string) {
		w.kubectl("label", "namespace", "qa", "--overwrite", "pod-security.kubernetes.io/warn="+level)
	}
	label("restricted")
	defer label("privileged")
	if got := w.kubectl("apply", "--server-side", "--dry-run=server", "-k", w.file("examples/"+example+"/base")); strings.Contains(got, "Warning") {
		w.t.Errorf("pod security: %s", got)
	}
}
