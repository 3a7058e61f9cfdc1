// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"crypto/tls"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/internal/sockopt"
)

const tproxyListeners = `listeners:
  - {name: routed4, address: "127.0.0.1:8651", kind: transparent, tproxy: true, identify: {sidecar: {}}}
  - {name: routed6, address: "[::1]:8651", kind: transparent, tproxy: true, identify: {sidecar: {}}}
`

// tproxySettings are the usual ones with other listeners.
func tproxySettings() string { return tproxyListeners + settings[strings.Index(settings, "spiffe:"):] }

// tproxyRules hand over what a router forwards, without changing its destination.
const tproxyRules = `table inet tp {
	chain pre {
		type filter hook prerouting priority mangle; policy accept;
		iifname "client" meta nfproto ipv4 tcp dport 443 tproxy ip to 127.0.0.1:8651 meta mark set 1 accept
		iifname "client" meta nfproto ipv6 tcp dport 443 tproxy ip6 to [::1]:8651 meta mark set 1 accept
	}
}
`

// TestTProxy: egret as the router of another namespace, whose connections keep their
// destination on the way.
func TestTProxy(t *testing.T) {
	w := newWorld(t)
	client, clientNS := makeNamespace(t, "client")
	sh(t, "ip", "-n", w.pod, "link", "add", "client", "type", "veth", "peer", "name", "eth0", "netns", client)
	for _, argv := range [][]string{
		{"-n", w.pod, "link", "set", "client", "up"}, {"-n", client, "link", "set", "eth0", "up"},
		{"-n", w.pod, "addr", "add", "10.78.0.1/24", "dev", "client"}, {"-n", client, "addr", "add", "10.78.0.2/24", "dev", "eth0"},
		{"-n", w.pod, "addr", "add", "fd78::1/64", "dev", "client", "nodad"}, {"-n", client, "addr", "add", "fd78::2/64", "dev", "eth0", "nodad"},
		{"-n", client, "route", "add", "default", "via", "10.78.0.1"}, {"-n", client, "-6", "route", "add", "default", "via", "fd78::1"},
		{"-n", w.pod, "rule", "add", "fwmark", "1", "lookup", "100"}, {"-n", w.pod, "-6", "rule", "add", "fwmark", "1", "lookup", "100"},
		{"-n", w.pod, "route", "add", "local", "default", "dev", "lo", "table", "100"}, {"-n", w.pod, "-6", "route", "add", "local", "default", "dev", "lo", "table", "100"},
	} {
		sh(t, append([]string{"ip"}, argv...)...)
	}
	nft := w.inPod("nft", "-f", "-")
	nft.Stdin = strings.NewReader(tproxyRules)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	e := w.start(t, tproxySettings(), "--inh-caps", "+net_admin", "--ambient-caps", "+net_admin")
	for _, v6 := range []bool{false, true} {
		to := join(addressOf("api.qase.io", v6), "443")
		conn, err := clientNS.Dial(t.Context(), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		tc := tls.Client(conn, &tls.Config{RootCAs: w.roots(t), ServerName: "api.qase.io"})
		_, _ = io.WriteString(tc, "GET /v1/project HTTP/1.1\r\nHost: api.qase.io\r\nConnection: close\r\n\r\n")
		answer, _ := io.ReadAll(tc)
		_ = conn.Close()
		if list := w.arrivals.take(); !strings.HasPrefix(string(answer), "HTTP/1.1 200") || len(list) != 1 || !list[0].Ours {
			t.Errorf("%s: %.80q, arrived as %+v", to, answer, list)
		}
		if r := e.await(t, to, func(r record) bool { return r.Original == to }); !strings.HasPrefix(r.Listener, "routed") {
			t.Errorf("record %+v", r)
		}
	}
}

// TestTProxyNeedsTheRight: without it the start says what is missing.
func TestTProxyNeedsTheRight(t *testing.T) {
	w := newWorld(t)
	w.write(t, "egret.yaml", []byte(tproxySettings()))
	sh(t, "chown", "-R", "14650", w.dir)
	out, err := w.inPod("setpriv", "--reuid", "14650", "--regid", "14650", "--clear-groups", os.Getenv(egretVar), "run", "-c", w.file("egret.yaml")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "CAP_NET_ADMIN") {
		t.Errorf("got %v\n%s", err, out)
	}
}

// TestOriginalDestination: what REDIRECT replaced is told for IPv4, IPv6, and IPv4 on a
// listener of both.
func TestOriginalDestination(t *testing.T) {
	w := newWorld(t)
	l, err := w.podNS.Listen(t.Context(), "tcp", "[::]:8650")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			w.redirect(t, backend)
			for _, to := range []string{"45.33.10.11:443", "[2600:5555::11]:80", "45.33.99.99:443"} { // the last is nobody's
				conn, err := w.dial(t.Context(), to)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				in, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer in.Close()
				if got, err := sockopt.OriginalDst(in); err != nil || got.String() != to {
					t.Errorf("got %s, %v; want %s", got, err, to)
				}
			}
		})
	}
	if syns, _ := w.packets.begun(); syns != 0 {
		t.Errorf("%d connections have left", syns)
	}
}

// TestExample: the flags of the example are those that egret takes.
func TestExample(t *testing.T) {
	pod, err := os.ReadFile("../../examples/redirect/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	args := regexp.MustCompile(`args: \[redirect, apply, (.*)\]`).FindSubmatch(pod)
	if args == nil {
		t.Fatal("pod.yaml applies no rules")
	}
	w := newWorld(t)
	argv := strings.Split(strings.ReplaceAll(string(args[1]), `"`, ""), ", ")
	w.inPodOK(t, append([]string{os.Getenv(egretVar), "redirect", "apply"}, argv...)...)
	if rules := w.inPodOK(t, "nft", "list", "table", "inet", "egret"); !strings.Contains(rules, "skuid 64535") || !strings.Contains(rules, "10.0.0.0/8") {
		t.Errorf("rules:\n%s", rules)
	}
}
