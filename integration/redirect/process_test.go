// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"os"
	"strings"
	"testing"
)

const processSettings = `listeners:
  - {name: v4, address: "127.0.0.1:8650", kind: transparent, identify: {process: {attestor: embedded, hybrid: true, rootCgroup: true}}}
  - {name: v6, address: "[::1]:8650", kind: transparent, identify: {process: {attestor: embedded, hybrid: true, rootCgroup: true}}}
spiffe:
  trustDomains: [acme.example]
  embedded: {spiffeID: spiffe://acme.example/egret, entries: [{spiffeID: spiffe://acme.example/app, uids: [1001]}, {spiffeID: spiffe://acme.example/other, uids: [1002]}]}
`

// TestProcesses: which local program has been redirected is what the kernel says of its
// socket, which believes to be connected elsewhere.
func TestProcesses(t *testing.T) {
	for _, way := range mainWays() {
		t.Run(way.name(), func(t *testing.T) {
			w := newWorld(t)
			e := w.startProcess(t, way)
			as := func(uid, family string) string {
				cmd := w.inPod("setpriv", "--reuid", uid, "--regid", uid, "--clear-groups", "curl", "-sSi", family, rest)
				cmd.Env = append(os.Environ(), "CURL_CA_BUNDLE="+w.file("trust/bundle.pem"))
				out, _ := cmd.CombinedOutput()
				return string(out)
			}
			for _, family := range []string{"-4", "-6"} {
				if got := as("1001", family); !strings.Contains(got, `"WEB"`) {
					t.Errorf("%s: 1001: %s", family, got)
				}
				if got := as("1002", family); !strings.Contains(got, "no_policy") {
					t.Errorf("%s: 1002: %s", family, got)
				}
				if got := as("1003", family); !strings.Contains(got, "access denied") {
					t.Errorf("%s: 1003: %s", family, got)
				}
			}
			if list := w.arrivals.take(); len(list) != 2 {
				t.Errorf("%+v", list)
			}
			for _, id := range []string{"spiffe://acme.example/app", "spiffe://acme.example/other", ""} {
				e.await(t, id, func(r record) bool { return r.Workload == id && (id == "") == (r.Layer == "identity") })
			}
		})
	}
}

// startProcess runs egret with listeners that know callers by their process.
func (w *world) startProcess(t *testing.T, way way) *egret {
	t.Helper()
	policy, err := os.ReadFile(w.file("policy.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	other := strings.NewReplacer("{name: app}", "{name: other}", "acme.example/app", "acme.example/other", "evidence: [sidecar]", "evidence: [process]").Replace(policyText)
	w.write(t, "policy.yaml", []byte(strings.ReplaceAll(string(policy), "evidence: [sidecar]", "evidence: [process]")+"---\n"+other))
	e := w.start(t, way.settings(processSettings+settings[strings.Index(settings, "metrics:"):]), way.privileges()...)
	w.redirect(t, way.backend, way.flags()...)
	return e
}

// twice is a program that keeps a connection open and makes another one, from the same local
// port to another address. It says how each went.
const twice = `
import socket, ssl, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
ctx = ssl.create_default_context(cafile=sys.argv[3])
kept, port = [], 0
for to in sys.argv[1:3]:
    s = socket.socket(family)
    s.settimeout(10)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("", port))
    try:
        s.connect((to, 443))
        port = s.getsockname()[1]
        t = ctx.wrap_socket(s, server_hostname="api.qase.io")
        t.sendall(b"GET /v1/project HTTP/1.1\r\nHost: api.qase.io\r\n\r\n")
        print(t.recv(100).split(b"\r\n")[0].decode())
        kept.append(t)
    except Exception as e:
        print("failed:", e)
`

// asApp runs the program as the user who is the app.
func (w *world) asApp(v6 bool) string {
	to := func(host string) string { return addressOf(host, v6) }
	out, _ := w.inPod("setpriv", "--reuid", "1001", "--regid", "1001", "--clear-groups", python, "-c", twice,
		to("api.qase.io"), to("slack.com"), w.file("trust/bundle.pem")).CombinedOutput()
	return strings.TrimSpace(string(out))
}

// TestTheSamePortTwice: of two connections with one local port to two addresses, NAT has to
// give one another port. By TPROXY both keep theirs, and both are known; by REDIRECT the one
// whose socket cannot be found is refused with that reason, and never taken for another's.
// A rule of SNAT that changes what goes to loopback does the same.
func TestTheSamePortTwice(t *testing.T) {
	for _, way := range ways()[:2] {
		t.Run(way.name(), func(t *testing.T) {
			w := newWorld(t)
			e := w.startProcess(t, way)
			for _, v6 := range []bool{false, true} {
				w.arrivals.take()
				first, second, _ := strings.Cut(w.asApp(v6), "\n")
				if !strings.HasPrefix(first, "HTTP/1.1 200") || strings.HasPrefix(second, "HTTP/1.1 200") != (way.mode == "tproxy") {
					t.Errorf("v6 %v: %q, %q", v6, first, second)
				}
				if n := len(w.arrivals.take()); n != map[string]int{"tproxy": 2, "redirect": 1}[way.mode] {
					t.Errorf("v6 %v: %d arrived", v6, n)
				}
			}
			if way.mode == "redirect" {
				r := e.await(t, "the other port", func(r record) bool { return r.Reason == "port_rewritten" })
				if r.Layer != "identity" || r.Workload != "" || r.Verdict != "deny" {
					t.Errorf("record %+v", r)
				}
				w.inPodOK(t, "nft", `add table ip others; add chain ip others post { type nat hook postrouting priority 100; }; add rule ip others post oifname "lo" tcp dport 8650 snat to 127.0.0.9`)
				if got := w.asApp(false); strings.Contains(got, "HTTP/1.1 200") || len(w.arrivals.take()) != 0 {
					t.Errorf("with another source: %q", got)
				}
			}
		})
	}
}
