// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
)

// publish swaps a new version into a volume as the kubelet does.
func publish(t *testing.T, w *nodetest.World, version, text string) {
	t.Helper()
	volume := filepath.Join(w.Dir, "volume")
	check(t, w.Write("volume/.."+version+"/policy.yaml", text))
	tmp := filepath.Join(volume, "..data_tmp")
	check(t, os.Symlink(".."+version, tmp))
	check(t, os.Rename(tmp, filepath.Join(volume, "..data")))
	if _, err := os.Lstat(filepath.Join(volume, "policy.yaml")); err != nil {
		check(t, os.Symlink("..data/policy.yaml", filepath.Join(volume, "policy.yaml")))
	}
}

// volumeWorld has its policy in a Kubernetes volume.
func volumeWorld(t *testing.T) *nodetest.World {
	t.Helper()
	return volumeWorldOf(t, embedded.Options{})
}

func volumeWorldOf(t *testing.T, o embedded.Options) *nodetest.World {
	t.Helper()
	w := newWorld(t, o)
	publish(t, w, "v1", echoPolicy(w, w.SaaS.Addr(), "GET"))
	edit(t, w, "egret.yaml", `    - {path: policy/platform}
    - {path: policy/teams/qa, scope: ["spiffe://acme.example/ns/qa/**"]}
`, "    - {path: volume}\n")
	return w
}

func TestVolumeSwapReloadsAndCuts(t *testing.T) {
	t.Parallel()
	w := volumeWorld(t)
	e := start(t, w).ready()
	c := e.client("sidecar")
	if got := ask(t, c, "https://api.pagerduty.com/"); got.status != http.StatusOK {
		t.Fatalf("before the swap: %+v", got)
	}
	slow := make(chan answer, 1)
	go func() { slow <- ask(t, c, "https://api.pagerduty.com/slow/15s") }()
	time.Sleep(100 * time.Millisecond) // it is under way
	begin := time.Now()
	publish(t, w, "v2", echoPolicy(w, w.SaaS.Addr(), "POST"))
	select {
	case got := <-slow:
		if !got.is("policy", "revoked") || got.status != http.StatusForbidden {
			t.Errorf("what was under way got %+v", got)
		}
		t.Logf("cut %s after the swap", time.Since(begin).Round(time.Millisecond))
	case <-time.After(10 * time.Second):
		t.Fatal("what is no longer allowed goes on")
	}
	if got := ask(t, c, "https://api.pagerduty.com/"); !got.is("policy", "method_not_allowed") {
		t.Errorf("after the swap: %+v", got)
	}
}

// TestMUST_G3_BrokenPolicyKeepsTheLastGood, and says so in the log, at /readyz and in
// metrics, once.
func TestMUST_G3_BrokenPolicyKeepsTheLastGood(t *testing.T) {
	t.Parallel()
	w := volumeWorld(t)
	e := start(t, w).ready()
	publish(t, w, "v2", strings.Replace(echoPolicy(w, w.SaaS.Addr(), "GET"), "destination: echo", "destination: ehco", 1))
	eventually(t, "the failed load", func() bool { return e.metric("egret_policy_reload_success") == "0" })
	if got := ask(t, e.client("sidecar"), "https://api.pagerduty.com/"); got.status != http.StatusOK {
		t.Errorf("what was in force: %+v", got)
	}
	status, text := e.page("/readyz")
	if status != http.StatusOK || !strings.Contains(text, "policy: degraded: what is in force is older than its files, the load at ") || !strings.Contains(text, "ehco") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if !strings.Contains(e.log.String(), "reload failed, what was in force stays") {
		t.Error("the log does not say so")
	}
	time.Sleep(time.Second)
	if n := e.metric(`egret_policy_reloads_total{outcome="failed"}`); n != "1" {
		t.Errorf("one broken version was loaded %s times", n)
	}
	publish(t, w, "v3", echoPolicy(w, w.SaaS.Addr(), "GET, POST"))
	eventually(t, "the mended policy", func() bool { return e.metric("egret_policy_reload_success") == "1" })
}

// TestAFileThatWasMissingIsWaitedFor: a failed load follows what it wanted to read.
func TestAFileThatWasMissingIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := volumeWorld(t)
	e := start(t, w).ready()
	publish(t, w, "v2", strings.Replace(echoPolicy(w, w.SaaS.Addr(), "GET"), "qase-token", "late-token", 1))
	eventually(t, "the failed load", func() bool { return e.metric("egret_policy_reload_success") == "0" })
	check(t, w.Write("secrets/late-token", "here\n"))
	eventually(t, "the load with the file", func() bool { return e.metric("egret_policy_reload_success") == "1" })
}

// TestABrokenCertificateHoldsUpNoPolicy: what revokes must not wait for it.
func TestABrokenCertificateHoldsUpNoPolicy(t *testing.T) {
	t.Parallel()
	w := volumeWorld(t)
	edit(t, w, "egret.yaml", "listeners:\n", "listeners:\n  - {name: mesh, address: 127.0.0.1:0, kind: forward, tls: {cert: listener.pem, key: listener.key}, identify: {x509SVID: {}}}\n")
	e := start(t, w).ready()
	check(t, w.Write("listener.pem", "broken"))
	eventually(t, "the failed load", func() bool { return e.metric("egret_policy_reload_success") == "0" })
	publish(t, w, "v2", echoPolicy(w, w.SaaS.Addr(), "POST"))
	c := e.client("sidecar")
	eventually(t, "the new policy", func() bool { return ask(t, c, "https://api.pagerduty.com/").is("policy", "method_not_allowed") })
	if _, text := e.page("/readyz"); !strings.Contains(text, `listener "mesh": tls: `) {
		t.Errorf("/readyz: %s", text)
	}
}

func TestReloadTellsOfChangedSettings(t *testing.T) {
	t.Parallel()
	w := volumeWorld(t)
	e := start(t, w).ready()
	edit(t, w, "egret.yaml", "drain: 2s", "drain: 3s")
	eventually(t, "the hint", func() bool { return strings.Contains(e.log.String(), "the settings have changed; restart egret") })
	check(t, w.Write("egret.yaml", "listeners: 1\n"))
	eventually(t, "the faults", func() bool {
		return strings.Contains(e.log.String(), "the settings have faults; what runs is what was read at start")
	})
	if got := ask(t, e.client("sidecar"), "https://api.pagerduty.com/"); got.status != http.StatusOK {
		t.Errorf("%+v", got)
	}
}
