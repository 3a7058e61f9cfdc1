// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/identity/kernel"
)

// as runs the program as another user and returns what it printed.
func (e *egret) as(uid uint32, listener, method, url string) string {
	e.t.Helper()
	at := e.Address(listener)
	cmd := exec.CommandContext(e.t.Context(), "/proc/self/exe")
	cmd.Dir, cmd.Stdin = "/", strings.NewReader(string(e.CABundle()))
	cmd.Env = []string{asProgram + "=" + strings.Join([]string{method, url, at.Network(), at.String()}, " ")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	check(e.t, err)
	return string(out)
}

// Users of the tests.
const (
	dashboardUID = 47201
	agentUID     = 47202
	strangerUID  = 47203 // has no entry
	unlistedUID  = 47204 // has an ID that no Workload names
)

const localEntries = `[
  {spiffeID: "` + nodetest.Dashboard + `", uids: [47201]},
  {spiffeID: "` + nodetest.Agent + `", uids: [47202]},
  {spiffeID: "spiffe://acme.example/ns/qa/sa/unlisted", uids: [47204]}]`

// localWorld has the embedded issuer with entries, a process listener on loopback and one
// on a unix socket that every user may reach.
func localWorld(t *testing.T, entries string) *nodetest.World {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run programs as other users")
	}
	if _, err := kernel.FindCgroups(); err != nil {
		t.Skip(err)
	}
	w := newWorld(t, embedded.Options{})
	public, err := os.MkdirTemp("", "egp")
	check(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(public) })
	check(t, os.Chmod(public, 0o755))
	edit(t, w, "egret.yaml", "listeners:\n", `listeners:
  - {name: local, address: 127.0.0.1:0, kind: forward, identify: {process: {attestor: embedded, hybrid: true, rootCgroup: true}}}
  - {name: socket, address: "unix://`+filepath.Join(public, "p.sock")+`", kind: forward, identify: {process: {attestor: embedded}}}
`)
	edit(t, w, "egret.yaml", `workloadAPI: "unix://`+w.Socket()+`"`, `embedded: {spiffeID: "spiffe://acme.example/egret", entries: `+entries+`}`)
	return w
}

// record waits for a record that holds all these texts.
func (e *egret) record(texts ...string) {
	e.t.Helper()
	eventually(e.t, "the record with "+strings.Join(texts, ", "), func() bool {
		for l := range strings.SplitSeq(e.records(), "\n") {
			has := true
			for _, s := range texts {
				has = has && strings.Contains(l, s)
			}
			if has {
				return true
			}
		}
		return false
	})
}

const post = "https://slack.com/api/chat.postMessage"

// TestLocalPrograms: programs of several users through one listener are each credited to
// their own identity, act by their own SVIDs, and nobody else is anybody.
func TestLocalPrograms(t *testing.T) {
	t.Parallel()
	w := localWorld(t, localEntries)
	e := start(t, w).ready()
	w.Trust(e.source)
	for _, listener := range []string{"local", "socket"} {
		at, process := `"listener":"`+listener+`"`, `"evidence":"process"`
		if got := e.as(dashboardUID, listener, "GET", projects); !strings.HasPrefix(got, "200 ") {
			t.Errorf("%s: the dashboard: %s", listener, got)
		}
		e.record(at, process, `"workload":"`+nodetest.Dashboard+`"`, `"verdict":"allow"`)
		// Slack's token is issued for a JWT-SVID, and the issuer knows the dashboard's only.
		if got := e.as(dashboardUID, listener, "POST", post); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"ok":true`) {
			t.Errorf("%s: the dashboard posts: %s", listener, got)
		}
		if got := e.as(agentUID, listener, "GET", projects); !strings.Contains(got, "policy/no_policy") {
			t.Errorf("%s: the build agent: %s", listener, got)
		}
		e.record(at, process, `"workload":"`+nodetest.Agent+`"`, `"reason":"no_policy"`)
		if got := e.as(strangerUID, listener, "GET", projects); !strings.Contains(got, "identity/svid_revoked") {
			t.Errorf("%s: a user without an entry: %s", listener, got)
		}
		e.record(at, `"reason":"svid_revoked"`, `uid 47203`)
	}
}

// TestMUST_I7_OnlyWorkloadsOfThePolicy: an identity that no Workload names is no caller's,
// also where another one would be.
func TestMUST_I7_OnlyWorkloadsOfThePolicy(t *testing.T) {
	t.Parallel()
	both := strings.Replace(localEntries, "uids: [47201]", "uids: [47201, 47204]", 1)
	e := start(t, localWorld(t, both)).ready()
	if got := e.as(unlistedUID, "local", "GET", projects); !strings.HasPrefix(got, "200 ") {
		t.Errorf("of two identities the one with a Workload was not selected: %s", got)
	}
	e = start(t, localWorld(t, localEntries)).ready()
	if got := e.as(unlistedUID, "local", "GET", projects); !strings.Contains(got, "identity/no_evidence") {
		t.Errorf("an identity that no Workload names: %s", got)
	}
	e.record(`"reason":"no_evidence"`, "sa/unlisted")
}

// TestMUST_I8_NobodyIsEgret: a process of egret's own user could have egret's identity,
// and is nobody, even where a Workload names that.
func TestMUST_I8_NobodyIsEgret(t *testing.T) {
	t.Parallel()
	w := localWorld(t, localEntries)
	edit(t, w, "policy/teams/qa/workloads.yaml", nodetest.Agent, "spiffe://acme.example/egret")
	edit(t, w, "egret.yaml", `"spiffe://acme.example/ns/qa/**"`, `"spiffe://acme.example/**"`)
	e := start(t, w).ready()
	for _, listener := range []string{"local", "socket"} {
		if got := e.as(0, listener, "GET", projects); !strings.Contains(got, "identity/no_evidence") {
			t.Errorf("%s: a process of egret's own user: %s", listener, got)
		}
	}
}

// TestProcessListenerNeedsToTellCallersApart: without rootCgroup nobody in the top group
// is known over TCP, and the record says what to do.
func TestProcessListenerNeedsToTellCallersApart(t *testing.T) {
	t.Parallel()
	w := localWorld(t, localEntries)
	edit(t, w, "egret.yaml", ", rootCgroup: true", "")
	if b, err := os.ReadFile("/proc/self/cgroup"); err != nil || !strings.HasSuffix(strings.TrimSpace(string(b)), "0::/") {
		t.Skip("the tests run in a cgroup of their own")
	}
	e := start(t, w).ready()
	if got := e.as(dashboardUID, "local", "GET", projects); !strings.Contains(got, "identity/no_evidence") {
		t.Errorf("in the top group: %s", got)
	}
	e.record(`"reason":"no_evidence"`, "top cgroup", "systemd-run --scope")
	if got := e.as(dashboardUID, "socket", "GET", projects); !strings.HasPrefix(got, "200 ") {
		t.Errorf("over the unix socket: %s", got)
	}
}

// TestMUST_I9_RemovedEntry: who is not entitled any more is refused at once, and nothing
// of what was issued is used again.
func TestMUST_I9_RemovedEntry(t *testing.T) {
	t.Parallel()
	w := localWorld(t, localEntries)
	e := start(t, w).ready()
	w.Trust(e.source)
	if got := e.as(dashboardUID, "local", "POST", post); !strings.HasPrefix(got, "200 ") {
		t.Fatal(got)
	}
	if !e.embedded.issuer.RemoveEntry(spiffeid.RequireFromString(nodetest.Dashboard)) {
		t.Fatal("there was no entry")
	}
	eventually(t, "the refusal", func() bool {
		return strings.Contains(e.as(dashboardUID, "local", "POST", post), "identity/svid_revoked")
	})
}
