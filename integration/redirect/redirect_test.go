// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package redirect

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// client is a program that is told nothing of egret but its CA.
type client struct {
	name      string
	argv      []string // {} is the target
	good, bad string
	answer    string // part of the output of a good call
	refusal   string // part of the output of a refused one
	host      string
	proto     string
}

const (
	rest   = "https://api.qase.io/v1/project"
	noRest = "https://api.qase.io/v1/user"
	python = "/usr/bin/python3"
)

func script(name string) string {
	path, _ := filepath.Abs(filepath.Join("../testdata/clients", name))
	return path
}

// clients are those that read no proxy variable, and some that would.
func clients() []client {
	get := func(name, proto string, argv ...string) client {
		return client{name: name, argv: append(argv, "{}"), good: rest, bad: noRest, answer: `"WEB"`, refusal: "403", host: "api.qase.io", proto: proto}
	}
	java := func(version, proto string) client {
		c := get("Java HttpClient, "+proto, proto, "java", script("Get.java"))
		c.argv = append(c.argv, version)
		return c
	}
	goclient := os.Getenv(goclientVar)
	echo := func(name, proto, good, bad, answer, refusal string, argv ...string) client {
		return client{name: name, argv: argv, good: good, bad: bad, answer: answer, refusal: refusal, host: "echo.egret.test", proto: proto}
	}
	const unary, duplex, other = "/grpc.testing.TestService/UnaryCall", "/grpc.testing.TestService/FullDuplexCall", "/grpc.testing.TestService/CacheableUnaryCall"
	return []client{
		get("curl, HTTP/1.1, IPv4", "HTTP/1.1", "curl", "-sSi4", "--http1.1"),
		get("curl, HTTP/2, IPv4", "HTTP/2.0", "curl", "-sSi4", "--http2"),
		get("curl, HTTP/1.1, IPv6", "HTTP/1.1", "curl", "-sSi6", "--http1.1"),
		get("curl, HTTP/2, IPv6", "HTTP/2.0", "curl", "-sSi6", "--http2"),
		get("Python requests", "HTTP/1.1", python, script("get_requests.py")),
		java("HTTP_1_1", "HTTP/1.1"), java("HTTP_2", "HTTP/2.0"),
		get("Ruby Net::HTTP", "HTTP/1.1", "ruby", script("net_http.rb")),
		get("Go net/http", "HTTP/2.0", goclient, "http"),
		echo("Node 20 fetch", "HTTP/1.1", "https://echo.egret.test", "https://echo.egret.test/private", "status: 200", "status: 403", "node", script("direct_fetch.mjs"), "{}"),
		{name: "@slack/web-api", argv: []string{"node", nodeScript("direct_slack.mjs"), "{}"}, good: "https://slack.com", bad: "https://slack.com/other",
			answer: "ok: true", refusal: "403", host: "slack.com", proto: "HTTP/1.1"},
		{name: "@octokit/rest", argv: []string{"node", nodeScript("direct_octokit.mjs"), "{}"}, good: "https://api.github.com", bad: "https://api.github.com/other",
			answer: "200", refusal: "403", host: "api.github.com", proto: "HTTP/1.1"},
		echo("grpc-go, unary", "HTTP/2.0", unary, other, "status: OK", "PermissionDenied", goclient, "grpc", "dns:///echo.egret.test:443", "{}"),
		echo("grpc-go, bidirectional", "HTTP/2.0", duplex, other, "status: OK", "PermissionDenied", goclient, "grpc", "dns:///echo.egret.test:443", "{}"),
		echo("WebSocket, coder/websocket", "HTTP/1.1", "wss://echo.egret.test/ws", "wss://echo.egret.test/private/ws", "echo: hello", "403", goclient, "ws", "{}"),
	}
}

// nodeScript is a script beside the libraries that integration/run has installed.
func nodeScript(name string) string {
	return filepath.Join(os.Getenv(cacheVar), "node", ".redirect-"+name)
}

// installScripts puts the scripts where Node finds their libraries.
func installScripts(t *testing.T) {
	t.Helper()
	for _, name := range []string{"direct_slack.mjs", "direct_octokit.mjs"} {
		text, err := os.ReadFile(script(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(nodeScript(name), text, 0o644); err != nil {
			t.Fatalf("%v: integration/run installs the Node libraries", err)
		}
		t.Cleanup(func() { _ = os.Remove(nodeScript(name)) })
	}
}

func (c client) with(target string) []string {
	argv := make([]string, len(c.argv))
	for i, a := range c.argv {
		argv[i] = strings.ReplaceAll(a, "{}", target)
	}
	return argv
}

// backends are the three programs; all clients are run with the first, in both modes, and
// curl with all.
func backends() []string { return []string{"nft", "iptables-nft", "iptables-legacy"} }

// way is how connections are brought to egret: a mode, by a program.
type way struct{ mode, backend string }

// ways are every mode by every program; the first two are each mode once.
func ways() []way {
	all := []way{{"redirect", "nft"}, {"tproxy", "nft"}}
	for _, b := range backends()[1:] {
		all = append(all, way{"redirect", b}, way{"tproxy", b})
	}
	return all
}

// mainWays are all but those of TPROXY by iptables, which differ from it by nft in rules
// only.
func mainWays() []way {
	return slices.DeleteFunc(ways(), func(x way) bool { return x.mode == "tproxy" && x.backend != "nft" })
}

func (x way) name() string { return x.mode + ", " + x.backend }

// settings makes listeners those of the mode.
func (x way) settings(text string) string {
	if x.mode == "redirect" {
		return text
	}
	return strings.ReplaceAll(text, "kind: transparent,", "kind: transparent, tproxy: true,")
}

func (x way) flags() []string { return []string{"--mode", x.mode} }

// privileges are what egret run needs.
func (x way) privileges() []string {
	if x.mode == "redirect" {
		return nil
	}
	return netAdmin()
}

func netAdmin() []string { return []string{"--inh-caps", "+net_admin", "--ambient-caps", "+net_admin"} }

// waits: TPROXY of iptables drops what nobody listens for, so that clients try again,
// first after a second, which is the kernel's.
func (x way) waits() bool { return x.mode == "tproxy" && x.backend != "nft" }

func (x way) backSoon() time.Duration {
	if x.waits() {
		return 3 * time.Second
	}
	return time.Second
}

// TestClients: programs without a proxy variable and without a change, injected and
// refused, over IPv4 and IPv6; and nothing of it leaves but inside TLS.
func TestClients(t *testing.T) {
	installScripts(t)
	for i, way := range mainWays() {
		t.Run(way.name(), func(t *testing.T) {
			w := newWorld(t)
			e := w.start(t, way.settings(settings), way.privileges()...)
			w.redirect(t, way.backend, way.flags()...)
			list := clients()
			if i > 1 {
				list = list[:4]
			}
			for _, c := range list {
				t.Run(strings.ReplaceAll(c.name, "/", "_"), func(t *testing.T) { w.try(t, e, c) })
			}
			w.packets.holdNoSecret(t, w)
		})
	}
}

func (w *world) try(t *testing.T, e *egret, c client) {
	w.arrivals.take()
	got := w.call(t, c.with(c.good)...)
	if got.code != 0 || !strings.Contains(got.out, c.answer) {
		t.Errorf("a good call: exit %d\n%s", got.code, got.out)
	}
	list := w.arrivals.take()
	if len(list) != 1 || !list[0].Ours || list[0].Proto != c.proto || list[0].Host != c.host && list[0].Host != c.host+":443" {
		t.Errorf("it arrived as %+v; want one over %s with the credential", list, c.proto)
	}
	got = w.call(t, c.with(c.bad)...)
	if !strings.Contains(got.out, c.refusal) {
		t.Errorf("a refused call: exit %d\n%s", got.code, got.out)
	}
	if list := w.arrivals.take(); len(list) != 0 {
		t.Errorf("a refused call arrived as %+v", list)
	}
	r := e.await(t, c.name, func(r record) bool { return r.Host == c.host && r.Verdict == "deny" && r.Reason == "path_not_allowed" })
	if r.Evidence != "sidecar" || r.Original == "" || r.OriginalMismatch {
		t.Errorf("record %+v", r)
	}
}

// touch makes the built-in tables, which iptables makes with the first rule of anybody's
// and keeps, empty, after the last.
func (w *world) touch(t *testing.T) {
	t.Helper()
	for _, program := range []string{"iptables-legacy", "ip6tables-legacy", "iptables-nft", "ip6tables-nft"} {
		for _, chain := range []string{"nat OUTPUT", "filter OUTPUT", "mangle OUTPUT", "mangle PREROUTING", "mangle POSTROUTING"} {
			table, chain, _ := strings.Cut(chain, " ")
			for _, change := range []string{"-A", "-D"} {
				w.inPodOK(t, program, "-t", table, change, chain, "-p", "tcp", "-j", "ACCEPT")
			}
		}
	}
}

// ruleset is every rule of the pod, without counters and comments of the dump, and without
// the routes that the kernel makes as addresses become usable.
func (w *world) ruleset(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, program := range []string{"iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ip6tables-nft-save"} {
		all.WriteString("## " + program + "\n" + w.inPodOK(t, program))
	}
	all.WriteString("## nft\n" + w.inPodOK(t, "nft", "list", "ruleset"))
	for _, family := range []string{"-4", "-6"} {
		all.WriteString("## ip " + family + "\n" + w.inPodOK(t, "ip", family, "rule", "show") + w.inPodOK(t, "ip", family, "route", "show", "table", "all"))
	}
	text := regexp.MustCompile(`\[\d+:\d+\]|packets \d+ bytes \d+|(?m)^# .*$|(?m)^.* proto kernel .*\n`).ReplaceAllString(all.String(), "")
	return text
}

// TestRulesAreOursAlone: applied twice is applied once, others' rules stay, and removal
// leaves the ruleset as it was.
func TestRulesAreOursAlone(t *testing.T) {
	w := newWorld(t)
	w.touch(t)
	w.inPodOK(t, "iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-d", "198.51.100.1", "-j", "ACCEPT")
	w.inPodOK(t, "iptables-nft", "-A", "OUTPUT", "-d", "198.51.100.2", "-j", "ACCEPT")
	w.inPodOK(t, "nft", "add table inet others; add chain inet others c; add rule inet others c tcp dport 443 accept")
	egret := os.Getenv(egretVar)
	for _, way := range ways() {
		backend := way.backend
		before := w.ruleset(t)
		apply := []string{egret, "redirect", "apply", "--mode", way.mode, "--backend", backend, "--uid", "14650", "--exclude-cidr", "10.0.0.0/8,fd00::/8", "--mark", "34"}
		w.inPodOK(t, apply...)
		once := w.ruleset(t)
		if once == before {
			t.Errorf("%s: nothing was applied", backend)
		}
		w.inPodOK(t, apply...)
		if twice := w.ruleset(t); twice != once {
			t.Errorf("%s: applied twice:\n%s\nonce:\n%s", way.name(), twice, once)
		}
		w.otherMode(t, way, once)
		for _, other := range backends() {
			if other == backend {
				continue
			}
			if out, err := w.inPod(egret, "redirect", "apply", "--backend", other, "--uid", "14650").CombinedOutput(); err == nil || !strings.Contains(string(out), "remove them first") {
				t.Errorf("%s beside %s: %v %s", other, backend, err, out)
			}
		}
		if out := w.inPodOK(t, egret, "redirect", "remove"); !strings.Contains(out, "removed from "+backend) {
			t.Errorf("%s: %s", backend, out)
		}
		if after := w.ruleset(t); after != before {
			t.Errorf("%s: after removal:\n%s\nbefore:\n%s", backend, after, before)
		}
		if out := w.inPodOK(t, egret, "redirect", "remove"); !strings.Contains(out, "nothing") {
			t.Errorf("%s: removed twice: %s", backend, out)
		}
	}
}

// otherMode applies the other mode over a way's rules, and the way's again.
func (w *world) otherMode(t *testing.T, x way, once string) {
	t.Helper()
	for _, mode := range []string{map[string]string{"redirect": "tproxy", "tproxy": "redirect"}[x.mode], x.mode} {
		w.inPodOK(t, os.Getenv(egretVar), "redirect", "apply", "--mode", mode, "--backend", x.backend, "--uid", "14650", "--exclude-cidr", "10.0.0.0/8,fd00::/8", "--mark", "34")
		if now := w.ruleset(t); (now == once) != (mode == x.mode) {
			t.Errorf("%s: by mode %s:\n%s\nonce:\n%s", x.name(), mode, now, once)
		}
	}
}

// TestPlainTextAndQUIC: plain HTTP is told to use https, a server-first protocol ends
// within a second, and UDP to port 443 is refused at once.
func TestPlainTextAndQUIC(t *testing.T) {
	for _, way := range mainWays() {
		t.Run(way.name(), func(t *testing.T) {
			w := newWorld(t)
			w.start(t, way.settings(settings), way.privileges()...)
			w.redirect(t, way.backend, way.flags()...)
			got := w.call(t, "curl", "-sSi", "http://api.qase.io/v1/project")
			if !strings.Contains(got.out, "403 egret target/plaintext") || !strings.Contains(got.out, "use https") {
				t.Errorf("plain HTTP:\n%s", got.out)
			}
			for _, v6 := range []bool{false, true} {
				start := time.Now()
				conn, err := w.dial(t.Context(), join(addressOf("api.qase.io", v6), "80"))
				if err != nil {
					t.Fatal(err)
				}
				n, err := conn.Read(make([]byte, 100))
				_ = conn.Close()
				if n != 0 || err == nil || time.Since(start) > time.Second {
					t.Errorf("server first: %d bytes, %v after %s", n, err, time.Since(start))
				}
				if err := w.quic(t, join(addressOf("api.qase.io", v6), "443")); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("UDP is not refused at once: %v", err)
				}
			}
			if _, quic := w.packets.begun(); quic != 0 {
				t.Errorf("%d UDP packets to port 443 have left", quic)
			}
			if len(w.arrivals.take()) != 0 {
				t.Error("something arrived")
			}
		})
	}
}
