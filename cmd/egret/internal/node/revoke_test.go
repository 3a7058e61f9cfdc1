// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/cmd/egret/internal/nodetest"
	"github.com/egret-proxy/egret/identity/embedded"
	"github.com/egret-proxy/egret/internal/ops"
)

// keepsRevocations makes the world's egret write them down.
func keepsRevocations(t testing.TB, w *nodetest.World) string {
	t.Helper()
	file := filepath.Join(w.Dir, "revocations.json")
	edit(t, w, "egret.yaml", "admin: {socket: ", "admin: {revocations: "+file+", socket: ")
	return file
}

func (e *egret) revoke(in RevokeRequest) (out Revoked) {
	e.t.Helper()
	check(e.t, e.call("POST", "/v1/revocations", in, &out))
	return out
}

func TestRevokeHoldsUntilLifted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	keepsRevocations(t, w)
	e := start(t, w).ready()
	c := e.client("sidecar")
	if a := ask(t, c, projects); a.status != 200 {
		t.Fatalf("before: %+v", a)
	}
	r := e.revoke(RevokeRequest{Workload: "nightly-dashboard", Reason: "INC-1"})
	if r.Revocation.Number != 1 || r.Until != "until it is lifted" || r.Took == "" || r.Warning != "" {
		t.Errorf("%+v", r)
	}
	if a := ask(t, c, projects); a.status != 403 || !a.is("policy", "revoked") {
		t.Errorf("revoked, but %+v", a)
	}
	if n := e.metric("egret_revocations"); n != "1" {
		t.Errorf("egret_revocations %s", n)
	}
	check(t, e.call("POST", "/v1/reload", nil, nil))
	if a := ask(t, c, projects); !a.is("policy", "revoked") {
		t.Errorf("a reload has lifted it: %+v", a)
	}
	var list []Revocation
	check(t, e.call("GET", "/v1/revocations", nil, &list))
	if len(list) != 1 || list[0].Reason != "INC-1" || list[0].UID != uint32(os.Getuid()) || list[0].Subject() != "workload nightly-dashboard" {
		t.Errorf("%+v", list)
	}
	check(t, e.call("DELETE", "/v1/revocations/1", nil, nil))
	if a := ask(t, c, projects); a.status != 200 {
		t.Errorf("lifted, but %+v", a)
	}
	eventually(t, "the records", func() bool {
		text := e.records()
		return strings.Contains(text, `revoked workload nightly-dashboard number=1`) && strings.Contains(text, "lifted workload") &&
			strings.Contains(text, `"reason":"revoked"`) &&
			strings.Contains(text, `"detail":"revocation 1 of workload nightly-dashboard: INC-1"`)
	})
}

// A restart must not grant again what was revoked, and numbers are never used twice.
func TestRevocationsOutliveARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	file := keepsRevocations(t, w)
	first := start(t, w).ready()
	first.revoke(RevokeRequest{Credential: "qase-token"})
	second := first.revoke(RevokeRequest{ID: nodetest.Agent})
	check(t, first.call("DELETE", "/v1/revocations/"+strconv.Itoa(second.Revocation.Number), nil, nil))
	check(t, first.Stop())

	e := start(t, w).ready()
	if a := ask(t, e.client("sidecar"), projects); !a.is("policy", "revoked") {
		t.Errorf("after a restart: %+v", a)
	}
	if r := e.revoke(RevokeRequest{ID: nodetest.Agent}); r.Revocation.Number != 3 {
		t.Errorf("number %d was used before", r.Revocation.Number)
	}
	check(t, e.Stop())

	for name, text := range map[string]string{
		"not JSON": "{", "of nothing": `{"revocations": [{"number": 1}]}`, "of a bad ID": `{"revocations": [{"number": 1, "id": "x"}]}`,
	} {
		check(t, os.WriteFile(file, []byte(text), 0o600))
		if n, _, err := build(t, w); err == nil || !strings.Contains(err.Error(), "admin.revocations") {
			n.close()
			t.Errorf("TestMUST_P3: %s: started, err %v", name, err)
		}
	}
}

func TestRevokeDropsAndCuts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	e := start(t, w).ready()
	c := e.client("sidecar")
	ask(t, c, projects)
	var states []CredentialState
	check(t, e.call("GET", "/v1/credentials", nil, &states))
	if len(states) != 1 || states[0].Credential != "qase-token" || states[0].Kind != "static" || states[0].State != "fresh" || states[0].Fingerprint == "" {
		t.Fatalf("%+v", states)
	}
	r := e.revoke(RevokeRequest{Credential: "qase-token", Once: true})
	if r.Dropped != 1 || r.Lasting != 1 || r.Ended != 0 || r.Revocation.Number != 0 {
		t.Errorf("%+v", r)
	}
	check(t, e.call("GET", "/v1/credentials", nil, &states))
	if len(states) != 0 {
		t.Errorf("still there: %+v", states)
	}
	if a := ask(t, c, projects); a.status != 200 {
		t.Errorf("--once holds: %+v", a)
	}
	r = e.revoke(RevokeRequest{Policy: "dashboard-reads-qase"})
	if !strings.Contains(r.Until, "egret restarts: set admin.revocations") {
		t.Errorf("without a file: %+v", r)
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	known := []string{"nightly-dashboard", "billing", "billing-export"}
	for name, want := range map[string]string{
		"nightly-dashbord": "nightly-dashboard", "dashboard": "nightly-dashboard", "biling": "billing", "export": "billing-export",
		"payroll": "", strings.Repeat("x", 65): "",
	} {
		if got := nearest(name, known); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// A caller that no Workload names may get one tomorrow, but most often it is misspelt.
func TestRevokeWarnsOfAnUnknownCaller(t *testing.T) {
	t.Parallel()
	e := start(t, newWorld(t, embedded.Options{})).ready()
	if r := e.revoke(RevokeRequest{ID: "spiffe://acme.example/nobody"}); !strings.Contains(r.Warning, "no Workload") || r.Revocation.Number != 1 {
		t.Errorf("%+v", r)
	}
	if r := e.revoke(RevokeRequest{ID: nodetest.Dashboard}); r.Warning != "" {
		t.Errorf("a known one: %+v", r)
	}
}

func TestRevokeRefusesMistakes(t *testing.T) {
	t.Parallel()
	e := start(t, newWorld(t, embedded.Options{})).ready()
	for name, tc := range map[string]struct {
		in     any
		status int
		says   string
	}{
		"nothing":      {RevokeRequest{}, 400, "exactly one"},
		"two":          {RevokeRequest{Workload: "a", Policy: "b"}, 400, "exactly one"},
		"no such":      {RevokeRequest{Workload: "nightly-dashbord"}, 404, "workload nightly-dashbord; did you mean nightly-dashboard?"},
		"no such cred": {RevokeRequest{Credential: "x"}, 404, "nothing of that name"},
		"no such pol":  {RevokeRequest{Policy: "x"}, 404, "nothing of that name"},
		"bad ID":       {RevokeRequest{ID: "dashboard"}, 400, `id "dashboard" is no SPIFFE ID`},
		"long":         {RevokeRequest{Workload: "nightly-dashboard", Reason: strings.Repeat("x", 300)}, 400, "256"},
		"unknown":      {map[string]string{"wrkload": "x"}, 400, "unknown field"},
	} {
		var ce *ops.CallError
		if err := e.call("POST", "/v1/revocations", tc.in, nil); !errors.As(err, &ce) || ce.Status != tc.status || !strings.Contains(ce.Message, tc.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for path, status := range map[string]int{"/v1/revocations/7": http.StatusNotFound, "/v1/revocations/x": http.StatusBadRequest} {
		var ce *ops.CallError
		if err := e.call("DELETE", path, nil, nil); !errors.As(err, &ce) || ce.Status != status {
			t.Errorf("%s: %v", path, err)
		}
	}
	var list []Revocation
	check(t, e.call("GET", "/v1/revocations", nil, &list))
	if len(list) != 0 {
		t.Errorf("revoked all the same: %+v", list)
	}
}

// What cannot be written down is in force all the same, and is not lifted in memory only.
func TestRevokeWithoutADisk(t *testing.T) {
	r := &revocations{file: filepath.Join(t.TempDir(), "gone", "r.json"), next: 1}
	x, err := r.add(Revocation{Workload: "a"})
	if err != nil || x.Number != 1 || len(r.all()) != 1 || r.save() == nil {
		t.Errorf("%+v, %v, %+v", x, err, r.all())
	}
	if _, err := r.lift(1); err == nil || len(r.all()) != 1 {
		t.Errorf("lifted in memory only: %v", err)
	}
}
