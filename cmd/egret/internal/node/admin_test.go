// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/proxy"
)

func (e *egret) call(method, path string, in, out any) error {
	return ops.Do(e.t.Context(), ops.Dial(filepath.Join(e.world.Dir, "admin.sock")), ops.Call{Method: method, Path: path, In: in, Out: out})
}

// records reads what has been written so far.
func (e *egret) records() string {
	b, err := os.ReadFile(filepath.Join(e.world.Dir, "audit.jsonl"))
	check(e.t, err)
	return string(b)
}

func TestAdminStatusAndReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	e := start(t, w).ready()
	var s Status
	check(t, e.call("GET", "/v1/status", nil, &s))
	if s.Identity != nodetest.Dashboard || s.Policy == "" || s.Fault != "" || s.CAExpires.IsZero() {
		t.Errorf("%+v", s)
	}
	var r Reloaded
	check(t, e.call("POST", "/v1/reload", nil, &r))
	if r.Policy != s.Policy || len(r.Faults) != 0 {
		t.Errorf("%+v", r)
	}
	edit(t, w, "policy/teams/qa/access.yaml", "workload: nightly-dashboard", "workload: nobody")
	check(t, e.call("POST", "/v1/reload", nil, &r))
	if r.Policy != s.Policy || len(r.Faults) != 3 || !strings.Contains(r.Faults[0], "access.yaml:") {
		t.Errorf("with faults: %+v", r)
	}
	check(t, e.call("GET", "/v1/status", nil, &s))
	if !strings.Contains(s.Fault, "access.yaml:") || !strings.Contains(s.Fault, "and 2 more") {
		t.Errorf("%+v", s)
	}
	var ce *ops.CallError
	if err := e.call("GET", "/v1/other", nil, nil); !errors.As(err, &ce) || ce.Status != http.StatusNotFound {
		t.Errorf("an unknown call: %v", err)
	}
	eventually(t, "the records", func() bool {
		text := e.records()
		return strings.Count(text, `"kind":"admin"`) >= 5 && strings.Contains(text, `"path_template":"/v1/reload"`)
	})
}

func TestAdminWalk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	e := start(t, w).ready()
	walk := func(in WalkRequest) (out proxy.Walk) {
		t.Helper()
		check(t, e.call("POST", "/v1/walk", in, &out))
		return out
	}
	good := walk(WalkRequest{ID: nodetest.Dashboard, Method: "GET", Target: "api.qase.io:443", Path: "/v1/project"})
	if !good.OK || len(good.Stages) != 5 {
		t.Errorf("%+v", good)
	}
	if found, err := audit.Find(filepath.Join(w.Dir, "audit.jsonl"), good.ID); err != nil && !errors.Is(err, audit.ErrNotFound) {
		t.Error(found, err)
	}
	eventually(t, "its record", func() bool { return strings.Contains(e.records(), good.ID) })
	for name, in := range map[string]WalkRequest{
		"target":   {Method: "GET", Target: "http://x", Path: "/"},
		"stranger": {ID: "spiffe://acme.example/other", Method: "GET", Target: "slack.com:443", Path: "/"},
		"no ID":    {ID: "other", Method: "GET", Target: "slack.com:443", Path: "/"},
	} {
		var ce *ops.CallError
		if err := e.call("POST", "/v1/walk", in, nil); !errors.As(err, &ce) || ce.Status/100 != 4 {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := e.call("POST", "/v1/walk", map[string]string{"mehtod": "GET"}, nil); err == nil || !strings.Contains(err.Error(), "mehtod") {
		t.Errorf("an unknown member: %v", err)
	}
}

// TestAdminWalkWithoutIdentity: the first stage says why.
func TestAdminWalkWithoutIdentity(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	w.StopIdentity()
	e := start(t, w)
	var walk proxy.Walk
	check(t, e.call("POST", "/v1/walk", WalkRequest{Method: "GET", Target: "api.qase.io:443", Path: "/v1/project"}, &walk))
	if walk.OK || len(walk.Stages) != 1 || walk.Stages[0].Reason != "identity/source_unavailable" || walk.Stages[0].Hint == "" {
		t.Errorf("%+v", walk)
	}
}

// TestMUST_P5_OtherUsersChangeNothing: neither by the socket's mode nor by its uid, and
// the attempt is recorded.
func TestMUST_P5_OtherUsersChangeNothing(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl: ", err)
	}
	as := func(e *egret, uid uint32) string {
		cmd := exec.CommandContext(t.Context(), curl, "-sS", "-X", "POST", "--unix-socket", filepath.Join(e.world.Dir, "admin.sock"), "http://egret/v1/reload")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	closed := newWorld(t, embedded.Options{})
	check(t, os.Chmod(closed.Dir, 0o755))
	if got := as(start(t, closed).ready(), 4242); !strings.Contains(got, "Permission denied") && !strings.Contains(got, "Could not connect") && !strings.Contains(got, "Failed to connect") {
		t.Errorf("the socket's mode let another user in: %s", got)
	}
	w := newWorld(t, embedded.Options{})
	check(t, os.Chmod(w.Dir, 0o755))
	edit(t, w, "egret.yaml", "admin.sock}", "admin.sock, uids: [4243]}")
	e := start(t, w).ready()
	if got := as(e, 4243); !strings.Contains(got, `"policy":`) {
		t.Errorf("a user of admin.uids: %s", got)
	}
	if got := as(e, 4242); !strings.Contains(got, "uid 4242 may not use the admin socket") {
		t.Errorf("another: %s", got)
	}
	eventually(t, "the record of the refusal", func() bool {
		return strings.Contains(e.records(), `"reason":"uid_not_allowed"`) && strings.Contains(e.records(), "uid=4242")
	})
}
