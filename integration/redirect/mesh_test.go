// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// meshRules are what the meshes' own programs put into a pod, in the order in which they
// do, as iptables-restore and nft take it.
var meshRules = map[string]struct{ kind, iptables, nft string }{
	"sidecar": {kind: "Istio (sidecar)", iptables: `*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`, nft: `table inet istio-proxy-nat {
	chain istio-redirect { meta l4proto tcp redirect to :15001; }
	chain istio-output { meta skuid 1337 return; jump istio-redirect; }
	chain output { type nat hook output priority -100; policy accept; jump istio-output; }
}
`},
	"ambient": {kind: "Istio (ambient)", iptables: `*mangle
:ISTIO_OUTPUT - [0:0]
:ISTIO_PRERT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
-A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
COMMIT
*nat
:ISTIO_OUTPUT - [0:0]
:ISTIO_PRERT - [0:0]
-A PREROUTING -j ISTIO_PRERT
-A OUTPUT -j ISTIO_OUTPUT
-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT
-A ISTIO_OUTPUT -o lo -j ACCEPT
-A ISTIO_OUTPUT -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001
-A ISTIO_PRERT -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15006
COMMIT
`, nft: `table inet istio-ambient-nat {
	chain istio-output { meta l4proto tcp meta mark & 0xfff != 0x539 redirect to :15001; }
	chain output { type nat hook output priority -100; policy accept; jump istio-output; }
}
`},
	"linkerd": {kind: "Linkerd", iptables: `*nat
:PROXY_INIT_OUTPUT - [0:0]
:PROXY_INIT_REDIRECT - [0:0]
-A PREROUTING -m comment --comment "proxy-init/install-proxy-init-prerouting" -j PROXY_INIT_REDIRECT
-A OUTPUT -m comment --comment "proxy-init/install-proxy-init-output" -j PROXY_INIT_OUTPUT
-A PROXY_INIT_OUTPUT -m owner --uid-owner 2102 -j RETURN
-A PROXY_INIT_OUTPUT -o lo -j RETURN
-A PROXY_INIT_OUTPUT -p tcp -j REDIRECT --to-ports 4140
-A PROXY_INIT_REDIRECT -p tcp -j REDIRECT --to-ports 4143
COMMIT
`},
}

// feed runs a program in the pod with text on its standard input.
func (w *world) feed(t *testing.T, text string, argv ...string) {
	t.Helper()
	cmd := w.inPod(argv...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

// without takes every rule of the pod away again.
func (w *world) without(t *testing.T) {
	t.Helper()
	w.inPodOK(t, "nft", "flush", "ruleset")
	for _, table := range []string{"nat", "mangle"} {
		for _, what := range []string{"-F", "-X"} {
			w.inPodOK(t, "iptables-legacy", "-t", table, what)
		}
	}
}

// TestMeshes: where a mesh redirects, in whichever form it has put its rules, apply says
// whose they are and what to do, and changes nothing; and doctor says so too.
func TestMeshes(t *testing.T) {
	w := newWorld(t)
	egret := os.Getenv(egretVar)
	w.write(t, "egret.yaml", []byte(settings))
	for name, mesh := range meshRules {
		for _, program := range []string{"iptables-legacy-restore", "iptables-nft-restore", "nft"} {
			switch {
			case program != "nft":
				w.feed(t, mesh.iptables, program, "--noflush")
			case mesh.nft == "":
				continue // it has no such form
			default:
				w.feed(t, mesh.nft, "nft", "-f", "-")
			}
			before := w.ruleset(t)
			for _, mode := range []string{"redirect", "tproxy"} {
				out, err := w.inPod(egret, "redirect", "apply", "--uid", "14650", "--mode", mode).CombinedOutput()
				if err == nil || !strings.Contains(string(out), "the redirection of "+mesh.kind+" is here already") || !strings.Contains(string(out), "take the pod out of the mesh") {
					t.Errorf("%s by %s, %s: %v %s", name, program, mode, err, out)
				}
			}
			if after := w.ruleset(t); after != before {
				t.Errorf("%s by %s: it changed the rules to\n%s", name, program, after)
			}
			if out, _ := w.inPod(egret, "doctor", "-c", w.file("egret.yaml")).CombinedOutput(); !strings.Contains(string(out), "FAIL  service mesh: "+mesh.kind) {
				t.Errorf("%s by %s: doctor:\n%s", name, program, out)
			}
			w.without(t)
		}
	}
	w.inPodOK(t, egret, "redirect", "apply", "--uid", "14650")
	if out, _ := w.inPod(egret, "doctor", "-c", w.file("egret.yaml")).CombinedOutput(); strings.Contains(string(out), "service mesh") || !strings.Contains(string(out), "egret's rules are here, by nft, mode redirect") {
		t.Errorf("without one:\n%s", out)
	}
	out, err := w.inPod("setpriv", "--reuid", "14650", "--clear-groups", "--regid", "14650", egret, "redirect", "apply", "--uid", "14650").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "CAP_NET_ADMIN") {
		t.Errorf("without privilege: %v %s", err, out)
	}
}

// relay is what a mesh's proxy is: it takes a connection of another program and makes one
// of its own.
const relay = `
import socket, sys, threading
to = (sys.argv[2], 443)
l = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("ready", flush=True)
def copy(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
        b.shutdown(socket.SHUT_WR)
    except OSError: pass
while True:
    c, _ = l.accept()
    up = socket.create_connection(to)
    for a, b in ((c, up), (up, c)): threading.Thread(target=copy, args=(a, b), daemon=True).start()
`

// TestAMeshProxyIsItself: what comes by another program of the pod is that program's own
// connection. Evidence of the pod goes for it; evidence of a process is the proxy's, and
// never that of the program behind it.
func TestAMeshProxyIsItself(t *testing.T) {
	t.Run("process", func(t *testing.T) {
		w := newWorld(t)
		e := w.startProcess(t, ways()[0])
		if got := w.throughRelay(t, "1337"); !strings.Contains(got, "access denied") {
			t.Errorf("by a proxy whom nobody knows: %s", got)
		}
		if got := w.throughRelay(t, "1002"); !strings.Contains(got, "no_policy") {
			t.Errorf("by a proxy that is another workload: %s", got)
		}
		if r := e.await(t, "the proxy", func(r record) bool { return r.Reason == "no_policy" }); r.Workload != "spiffe://acme.example/other" || r.Evidence != "process" {
			t.Errorf("record %+v", r)
		}
		if list := w.arrivals.take(); len(list) != 0 {
			t.Errorf("%+v", list)
		}
	})
	t.Run("pod", func(t *testing.T) {
		w := newWorld(t)
		e := w.start(t, settings)
		w.redirect(t, "nft")
		if got := w.throughRelay(t, "1337"); !strings.Contains(got, `"WEB"`) {
			t.Errorf("in the pod: %s", got)
		}
		if r := e.await(t, "the call", func(r record) bool { return r.Verdict == "allow" }); r.Workload != "spiffe://acme.example/app" || r.Evidence != "sidecar" {
			t.Errorf("record %+v", r)
		}
	})
}

// throughRelay has the app call by a relay of another user.
func (w *world) throughRelay(t *testing.T, uid string) string {
	t.Helper()
	as := func(uid string, argv ...string) *exec.Cmd {
		return w.inPod(append([]string{"setpriv", "--reuid", uid, "--regid", uid, "--clear-groups"}, argv...)...)
	}
	proxy := as(uid, python, "-c", relay, "15001", addressOf("api.qase.io", false))
	out, err := proxy.StdoutPipe()
	if err == nil {
		err = proxy.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = proxy.Process.Kill(); _ = proxy.Wait() }()
	if _, err := fmt.Fscan(out, new(string)); err != nil {
		t.Fatal(err)
	}
	app := as("1001", "curl", "-sSi4", "--max-time", "10", "--resolve", "api.qase.io:15001:127.0.0.1", "--connect-to", "api.qase.io:443:api.qase.io:15001", rest)
	app.Env = append(os.Environ(), "CURL_CA_BUNDLE="+w.file("trust/bundle.pem"))
	got, _ := app.CombinedOutput()
	return string(got)
}
