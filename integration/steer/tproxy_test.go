// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"strings"
	"testing"
)

// twice makes two connections from one local port to two addresses.
const twice = `
import socket, ssl, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
ctx = ssl.create_default_context(cafile=sys.argv[3])
kept, port = [], 0
for to in sys.argv[1:3]:
    s = socket.socket(family)
    s.settimeout(20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.bind(("", port))
    s.connect((to, 443))
    port = s.getsockname()[1]
    t = ctx.wrap_socket(s, server_hostname=sys.argv[4])
    t.sendall(("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (sys.argv[5], sys.argv[4])).encode())
    print(t.recv(100).split(b"\r\n")[0].decode())
    kept.append(t)
`

// TestTProxy: pods that are captured by TPROXY are served as others are, each with its own
// credential, also where a program has one local port towards two addresses; egret may end
// and come back; what is steered no more keeps no rule and no route. egret run has no
// capability for it: the sockets that it is passed have been made by egret steer.
func TestTProxy(t *testing.T) {
	w := newWorld(t)
	for _, p := range w.pods {
		p.mount(t)
	}
	w.runSteer(t, append(w.folder(), "--mode", "tproxy")...)
	e := w.runEgret(t)
	w.awaitServed(t, podCount)
	loads, sum := w.hammers(t)
	p := w.pods[2]
	for _, v6 := range []bool{false, true} {
		code, out := p.call(t, "/usr/bin/python3", "-c", twice, addressOf(hosts()[0], v6), addressOf(hosts()[1], v6), w.file("trust/bundle.pem"), hosts()[0], "/public/pod2/twice")
		if strings.Count(out, "HTTP/1.1 200") != 2 {
			t.Errorf("v6 %v: exit %d\n%s", v6, code, out)
		}
	}
	e.stop(t)
	w.runEgret(t)
	before := sum()
	waitFor(t, "calls succeed", func() bool { return sum() > before+20 })
	w.endAll(t, loads, 0)
	w.packets.holdNone(t)
	for _, family := range []string{"-4", "-6"} {
		if rules := sh(t, "ip", "-n", p.ns, family, "rule", "show"); !strings.Contains(rules, "fwmark 0x1000/0x1000 lookup 25959") {
			t.Errorf("%s: rules\n%s", family, rules)
		}
	}
	unbind(p.file())
	waitFor(t, "it is left", func() bool {
		text := sh(t, "ip", "-n", p.ns, "rule", "show") + sh(t, "ip", "-n", p.ns, "-6", "rule", "show") +
			sh(t, "ip", "-n", p.ns, "route", "show", "table", "all") + sh(t, "ip", "-n", p.ns, "-6", "route", "show", "table", "all") +
			sh(t, "nsenter", "--net="+p.source(), "nft", "list", "ruleset")
		return !strings.Contains(text, "25959") && !strings.Contains(text, "egret")
	})
}
