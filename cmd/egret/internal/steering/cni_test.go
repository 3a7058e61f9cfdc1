// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package steering

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/internal/ops"
)

// control is an egret steer that answers as it is told.
type control struct {
	socket string
	mu     sync.Mutex
	asked  []string
	fails  string
	pods   []Pod
}

func newControl(t *testing.T) *control {
	t.Helper()
	dir, err := os.MkdirTemp("", "cni")
	if err != nil {
		t.Fatal(err)
	}
	c := &control{socket: filepath.Join(dir, "c")}
	a, err := ops.NewAdmin(ops.AdminOptions{Socket: c.socket, Record: func(ops.AdminCall) {}})
	if err != nil {
		t.Fatal(err)
	}
	answer := func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.asked = append(c.asked, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+body.String()))
		switch {
		case c.fails != "":
			ops.WriteError(w, http.StatusConflict, c.fails)
		case r.Method == http.MethodGet:
			ops.WriteJSON(w, c.pods)
		default:
			ops.WriteJSON(w, struct{}{})
		}
	}
	a.Handle("/v1/pods", http.HandlerFunc(answer))
	a.Handle("/v1/pods/{key}", http.HandlerFunc(answer))
	l, err := a.Listen()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = a.Serve(l) }()
	t.Cleanup(func() { _ = a.Shutdown(t.Context()); <-done; _ = os.RemoveAll(dir) })
	return c
}

// call runs the plugin once.
func (c *control) call(t *testing.T, command string, env map[string]string, conf string) (code int, out string) {
	t.Helper()
	all := map[string]string{"CNI_COMMAND": command, "CNI_CONTAINERID": "abc", "CNI_NETNS": "/run/netns/cni-1", "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=qa;K8S_POD_NAME=job-1;K8S_POD_UID=11111111-2222-3333-4444-555555555555"}
	for k, v := range env {
		all[k] = v
	}
	conf = strings.ReplaceAll(conf, "SOCKET", c.socket)
	var b bytes.Buffer
	p := Plugin{Env: func(k string) string { return all[k] }, In: strings.NewReader(conf), Out: &b, Called: t.Context()}
	return p.Run(), b.String()
}

const (
	conf    = `{"cniVersion":"1.0.0","name":"net","type":"egret-cni","control":"SOCKET","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}}`
	noPrev  = `{"cniVersion":"1.0.0","name":"net","type":"egret-cni","control":"SOCKET"}`
	nowhere = `{"cniVersion":"1.0.0","name":"net","type":"egret-cni","control":"/nonexistent/x","prevResult":{}}`
)

func TestPluginAdd(t *testing.T) {
	c := newControl(t)
	code, out := c.call(t, "ADD", nil, conf)
	if code != 0 || out != `{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}`+"\n" {
		t.Errorf("%d %s", code, out)
	}
	want := []string{`POST /v1/pods {"key":"abc","netns":"/run/netns/cni-1","uid":"11111111-2222-3333-4444-555555555555","namespace":"qa","name":"job-1"}`}
	if d := cmp.Diff(want, c.asked); d != "" {
		t.Error(d)
	}
}

func TestPluginDelAndCheck(t *testing.T) {
	c := newControl(t)
	if code, out := c.call(t, "DEL", nil, noPrev); code != 0 || out != "" {
		t.Errorf("%d %s", code, out)
	}
	c.pods = []Pod{{Key: "abc", State: "served"}, {Key: "def", State: "failed"}}
	for id, want := range map[string]int{"abc": 0, "def": 1, "ghi": 1} {
		if code, out := c.call(t, "CHECK", map[string]string{"CNI_CONTAINERID": id}, conf); code != want {
			t.Errorf("%s: %d %s", id, code, out)
		}
	}
	if code, out := c.call(t, "VERSION", nil, `{"cniVersion":"1.0.0"}`); code != 0 || !strings.Contains(out, `"supportedVersions":["0.4.0","1.0.0","1.1.0"]`) {
		t.Errorf("%d %s", code, out)
	}
}

// TestMUST_P3_PodsThatNobodyCapturesDoNotStart: every way in which an ADD can fail is told
// in the form of the CNI specification, and as a failure.
func TestMUST_P3_PodsThatNobodyCapturesDoNotStart(t *testing.T) {
	c := newControl(t)
	for name, tc := range map[string]struct {
		command, conf, fails string
		env                  map[string]string
		code                 uint
		says                 string
	}{
		"refused":       {command: "ADD", conf: conf, fails: "no egret run has taken the sockets", code: cniNotSteered, says: "no egret run"},
		"no steer":      {command: "ADD", conf: nowhere, code: cniNotSteered, says: "/nonexistent/x"},
		"first":         {command: "ADD", conf: noPrev, code: cniBadConfig, says: "conflist"},
		"no namespace":  {command: "ADD", conf: conf, env: map[string]string{"CNI_NETNS": ""}, code: cniBadEnv, says: "CNI_NETNS"},
		"bad args":      {command: "ADD", conf: conf, env: map[string]string{"CNI_ARGS": "x"}, code: cniBadEnv, says: "CNI_ARGS"},
		"not JSON":      {command: "ADD", conf: "{", code: cniBadDecode, says: "JSON"},
		"unknown":       {command: "PUT", conf: conf, code: cniBadEnv, says: "CNI_COMMAND"},
		"del, no steer": {command: "DEL", conf: nowhere, code: cniNotSteered, says: "asked again"},
		"status":        {command: "STATUS", conf: nowhere, code: 50, says: "cannot be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			c.fails = tc.fails
			code, out := c.call(t, tc.command, tc.env, tc.conf)
			var e cniError
			if err := json.Unmarshal([]byte(out), &e); err != nil || code == 0 || e.Code != tc.code || !strings.Contains(e.Msg+e.Details, tc.says) {
				t.Errorf("%d %s", code, out)
			}
		})
	}
}
