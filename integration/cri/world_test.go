// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package cri

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/integration/internal/testbed"
	"github.com/egret-proxy/egret/internal/netns"
	"github.com/egret-proxy/egret/internal/ops"
	"github.com/egret-proxy/egret/internal/saas"
	"github.com/egret-proxy/egret/internal/secret"
)

// Addresses. The SaaS has one that is public, so that egret dials it.
const (
	saasHost    = "api.egret.test"
	saasAddress = "45.33.11.10"
	outAddress  = "10.66.100.1"
	nodeAddress = "10.66.100.2"
	podNetwork  = "10.77.0.0/24"
	egretUID    = 14660
	firstUID    = 14700 // of the first pod's workload
	podCount    = 6
)

// world is a node with containerd, its pods, and a SaaS outside.
type world struct {
	*node
	c        *containerd
	pods     []*pod
	arrivals testbed.PodSaaS
}

func newWorld(t *testing.T, bin string) *world {
	t.Helper()
	w := &world{node: newNode(t), arrivals: testbed.PodSaaS{Keys: map[string]secret.Secret{}}}
	w.wire()
	w.c = newContainerd(t, w.node, bin)
	tokens := saas.NewIssuer(nil)
	for i := range podCount {
		p := w.newPod(i)
		w.pods = append(w.pods, p)
		w.arrivals.Keys[p.name] = tokens.Issue([]string{"chat:write"}, 0)
	}
	w.serve(t)
	w.settings()
	return w
}

// wire joins the node with what is outside. It routes, so that what is not captured gets
// through, and is seen.
func (w *world) wire() {
	w.sh("ip", "netns", "add", "out")
	for _, line := range []string{
		"-n out link set lo up", "link add eth0 type veth peer name node netns out", "addr add " + nodeAddress + "/24 dev eth0", "link set eth0 up",
		"-n out addr add " + outAddress + "/24 dev node", "-n out link set node up", "-n out addr add " + saasAddress + "/32 dev lo",
		"-n out route add " + podNetwork + " via " + nodeAddress, "route add default via " + outAddress,
	} {
		w.sh(append([]string{"ip"}, strings.Fields(line)...)...)
	}
}

// serve starts the SaaS.
func (w *world) serve(t *testing.T) {
	t.Helper()
	out, err := netns.Open(w.at("/run/netns/out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = out.Close() })
	l, err := out.Listen(t.Context(), "tcp", saasAddress+":443")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := saas.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	twin, err := saas.ListenOn(l, ca, saas.Host{Name: saasHost, Handler: &w.arrivals})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = twin.Close() })
	w.write("twin.pem", string(ca.PEM()))
}

// settings writes those of egret run: each pod's workload is known by its user, its
// pod by the cgroup.
func (w *world) settings() {
	egret := os.Getenv(egretVar)
	w.sh(egret, "ca", "init", "--domains", "egret.test", "--out", w.path("ca"))
	w.sh(egret, "ca", "issue", "--root", w.path("ca"), "--out", w.path("issuer"), "--host", saasHost)
	root, err := os.ReadFile(w.path("ca/ca.pem"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write("trust/ca.pem", string(root))
	w.sh("chmod", "-R", "a+rX", w.path("trust"))
	var entries, policy bytes.Buffer
	policy.WriteString("apiVersion: egret.dev/v1alpha1\nkind: Destination\nmetadata: {name: api}\nspec: {hosts: [" + saasHost + "], tls: {roots: twin.pem}}\n")
	for _, p := range w.pods {
		fmt.Fprintf(&entries, "      - {spiffeID: %s, uids: [%d]}\n", p.id(), p.user())
		w.write("secrets/"+p.name, w.arrivals.Keys[p.name].Reveal()+"\n")
		policy.WriteString(testbed.PodPolicy(p.name, p.id()))
	}
	w.write("policy.yaml", policy.String())
	w.write("egret.yaml", fmt.Sprintf(`listeners:
  - {name: pods, address: "steer:///run/egret-steer/steer.sock", kind: transparent, identify: {process: {attestor: embedded, hybrid: true}}}
spiffe:
  trustDomains: [acme.example]
  embedded:
    spiffeID: spiffe://acme.example/egret
    entries:
%smetrics: {address: "127.0.0.1:8633"}
certs: {issuer: {file: [{chain: issuer/chain.pem, key: issuer/key.pem}]}}
policy: {paths: [{path: policy.yaml}]}
audit: {file: audit.jsonl}
limits: {drain: 2s}
log: {format: json}
`, entries.String()))
	for _, own := range []string{"egret.yaml", "policy.yaml", "secrets", "issuer", "twin.pem", "ca"} {
		w.sh("chown", "-R", fmt.Sprint(egretUID), w.path(own))
	}
	w.sh("chown", fmt.Sprint(egretUID), w.dir)
}

// runEgret starts egret run on the node, as its own user without a capability.
func (w *world) runEgret(t *testing.T) *program {
	t.Helper()
	id := fmt.Sprint(egretUID)
	return w.begin(t, "egret run", `"msg":"ready"`, "setpriv", "--reuid", id, "--regid", id, "--clear-groups", "--inh-caps", "-all", "--bounding-set", "-all", "--no-new-privs",
		os.Getenv(egretVar), "run", "-c", w.path("egret.yaml"))
}

// runSteer starts egret steer on the node, with the container runtime as its source.
func (w *world) runSteer(t *testing.T) *program {
	t.Helper()
	return w.begin(t, "egret steer", `"msg":"steering"`, os.Getenv(egretVar), "steer", "--user", fmt.Sprint(egretUID), "--cri", "unix://"+criSocket)
}

// listing and source are lines of what egret steer tells on its control socket.
type (
	listing struct {
		Key, UID, Namespace, Name, State, Error string
		NetNS                                   uint64
	}
	source struct{ Runtime, State, Error string }
)

// asked is what egret steer answers on its control socket.
func asked[T any](t *testing.T, w *world, path string) (out []T) {
	t.Helper()
	call := ops.Call{Method: http.MethodGet, Path: path, Out: &out}
	if err := ops.Do(t.Context(), ops.Dial(w.at("/run/egret-steer/control.sock")), call); err != nil {
		t.Fatal(err)
	}
	return out
}

// listed is what egret steer says of each pod, by its name.
func (w *world) listed(t *testing.T) map[string]listing {
	t.Helper()
	states := map[string]listing{}
	for _, x := range asked[listing](t, w, "/v1/pods") {
		if _, twice := states[x.Name]; twice {
			t.Errorf("pod %s is listed twice", x.Name)
		}
		states[x.Name] = x
	}
	return states
}

// awaitServed waits until exactly these pods are served.
func (w *world) awaitServed(t *testing.T, pods ...*pod) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d pods are served", len(pods)), func() bool {
		list, n := w.listed(t), 0
		for _, x := range list {
			if x.State == "served" {
				n++
			}
		}
		for _, p := range pods {
			if list[p.name].State != "served" {
				return false
			}
		}
		return n == len(pods)
	})
}

// source is how egret steer stands to the container runtime.
func (w *world) source(t *testing.T) source {
	t.Helper()
	list := asked[source](t, w, "/v1/sources")
	if len(list) != 1 {
		t.Fatalf("sources: %+v", list)
	}
	return list[0]
}

// record is what the tests look at of an audit record.
type record struct{ Pod, Workload, Evidence, Verdict, Layer, Reason string }

// await returns the first record that passes.
func (w *world) await(t *testing.T, what string, keep func(record) bool) (found record) {
	t.Helper()
	waitFor(t, "a record of "+what, func() bool {
		text, _ := os.ReadFile(w.path("audit.jsonl"))
		for line := range bytes.Lines(text) {
			if json.Unmarshal(line, &found) == nil && keep(found) {
				return true
			}
		}
		return false
	})
	return found
}
