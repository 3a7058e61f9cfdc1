// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cluster

import (
	"maps"
	"strings"
	"testing"
)

// redirectOverlay is as that of the sidecar.
const redirectOverlay = `resources: [../base]
patches:
  - target: {kind: CronJob}
    patch: |-
      - {op: add, path: /spec/jobTemplate/spec/template/spec/initContainers/0/imagePullPolicy, value: Never}
      - {op: add, path: /spec/jobTemplate/spec/template/spec/initContainers/1/imagePullPolicy, value: Never}
      - {op: add, path: /spec/jobTemplate/spec/template/spec/containers/0/imagePullPolicy, value: Never}
      - {op: replace, path: /spec/jobTemplate/spec/template/spec/volumes/0, value: {name: spiffe, hostPath: {path: /run/spire/agent, type: Directory}}}
`

func redirected(t *testing.T, w *world) {
	w.lay("redirect")
	w.kubectl("-n", "qa", "delete", "--ignore-not-found", "cronjob", "nightly-dashboard") // of the same name, with a proxy
	w.apply("redirect", redirectOverlay)
	w.job("redirect", "complete", func(object) {})
	w.dashboardDone("redirect")
	has(t, "records", w.words("qa", "job/redirect", "egret"), `"original":"`+saasAddress+`:443"`)
	w.job("redirect-refused", "complete", calls("GET", "https://api.qase.io/v1/case/WEB", "https://auth.acme.example/", "http://api.qase.io/v1/project", "https://"+saasAddress+"/"))
	got := w.words("qa", "job/redirect-refused", "dashboard")
	has(t, "refused", got, "status: 403\ndecision: policy; reason=path_not_allowed", "remote error: tls:", "status: 403\ndecision: target; reason=")
	if n := strings.Count("\n"+got, "\nerror: "); n != 2 {
		t.Errorf("%d errors of connections, want 2:\n%s", n, got)
	}
	w.job("redirect-removed", "complete", func(pod object) { calls("GET", "https://api.qase.io/v1/project")(pod); remove(pod) })
	// The way round egret is open, and leads to a SaaS whose certificate the program does not
	// trust, without a credential.
	has(t, "with the rules removed", w.words("qa", "job/redirect-removed", "dashboard"), "certificate signed by unknown authority")
}

// remove puts a container that removes the rules behind the one that makes them twice.
func remove(pod object) {
	containers := pod["initContainers"].([]any)
	apply := containers[0].(object)
	again, last := maps.Clone(apply), maps.Clone(apply)
	again["name"], last["name"] = "again", "remove"
	last["args"] = []string{"redirect", "remove", "--backend", "nft"}
	pod["initContainers"] = append([]any{apply, again, last}, containers[1:]...)
}
