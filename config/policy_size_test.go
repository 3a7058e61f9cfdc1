// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// sized is a policy of one part that is n long.
func sized(n int, before, line string) string {
	var b strings.Builder
	b.WriteString(before)
	for i := range n {
		b.WriteString(strings.ReplaceAll(line, "%", fmt.Sprint(i)))
	}
	return b.String()
}

// TestLargePolicyLoads: what an author can write much of costs a moment, whatever it is,
// or is a fault. The bound is far above what it takes, and far below what it took.
func TestLargePolicyLoads(t *testing.T) {
	const hosts = "apiVersion: egret.dev/v1alpha1\nkind: Destination\nmetadata: {name: d}\nspec:\n  hosts:\n"
	const policies = `---
apiVersion: egret.dev/v1alpha1
kind: AccessPolicy
metadata: {name: p%}
spec: {workload: w, destination: d, credential: none, owner: o, expires: 2030-01-01, allow: [{methods: [GET], paths: [/x%]}]}
`
	base := workload("w") + "---\n" + hosts + "  - a.acme.example\n"
	missing := strings.Replace(policies, "workload: w,", "workload: ww%,", 1)
	observing := strings.NewReplacer("p%", "o%", "/x%", "/y%", "owner: o", "mode: observe, owner: o").Replace(policies)
	for name, tc := range map[string]struct{ text, fault string }{
		"hosts":      {sized(api.MaxHosts, hosts, "  - h%.acme.example\n"), ""},
		"more hosts": {sized(20_000, hosts, "  - h%.acme.example\n"), "must be at most 10000 hosts"},
		"policies":   {sized(2_000, base, policies), ""},
		"missing":    {sized(2_000, base, missing), "must name a Workload that exists"},
		"two modes":  {sized(1_500, base, policies+observing), "must not make more than 1000000 pairs of rules"},
		"few modes":  {sized(600, base, policies+observing), ""},
	} {
		node := Defaults()
		node.Certs.Issuer.Ephemeral = &Ephemeral{}
		node.Policy.Paths = []PolicyPath{{Path: put(t, t.TempDir(), "a.yaml", tc.text, 0o600)}}
		begun := time.Now()
		_, faults := Load(&node, LoadOptions{SecretsElsewhere: true})
		took := time.Since(begun)
		if took > 20*time.Second {
			t.Errorf("%s took %s", name, took)
		}
		t.Log(name, took)
		if text := faults.Error(); tc.fault == "" && text != "" || !strings.Contains(text, tc.fault) {
			t.Errorf("%s: %.300s, want %q", name, text, tc.fault)
		}
	}
}
