// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package steer

import (
	"os"
	"strings"
	"sync"
	"testing"
)

// clients know of no proxy. {} is the target.
func clients(w *world) map[string][]string {
	return map[string][]string{
		"curl, IPv4":      {"curl", "-sSi4", "{}"},
		"curl, IPv6":      {"curl", "-sSi6", "{}"},
		"Python requests": {"/usr/bin/python3", w.file("get_requests.py"), "{}"},
		"Node 20 fetch":   {"node", "--input-type=module", "-e", "const a = await fetch(process.argv[1]); console.log('status:', a.status, await a.text())", "{}"},
		"Go net/http":     {os.Getenv(goclientVar), "http", "{}"},
	}
}

func with(argv []string, target string) []string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = strings.ReplaceAll(a, "{}", target)
	}
	return out
}

// newNode is a world whose pods are all served.
func newNode(t *testing.T) (w *world, egret, steer *program) {
	t.Helper()
	w = newWorld(t)
	for _, p := range w.pods {
		p.mount(t)
	}
	steer = w.runSteer(t, w.folder()...)
	egret = w.runEgret(t)
	w.awaitServed(t, podCount)
	return w, egret, steer
}

// TestClients: in each of ten pods, real clients without a proxy variable are given their
// own pod's credential and no other; what policy does not allow is refused; and no
// connection leaves a pod but through egret.
func TestClients(t *testing.T) {
	w, _, _ := newNode(t)
	sh(t, "cp", "../testdata/clients/get_requests.py", w.file("get_requests.py"))
	sh(t, "chmod", "a+r", w.file("get_requests.py"))
	good, other := "https://"+hosts()[0]+"/public/", "https://"+hosts()[1]+"/public/"
	for name, argv := range clients(w) {
		var all sync.WaitGroup
		for _, p := range w.pods {
			all.Go(func() {
				if code, out := p.call(t, with(argv, good+p.name()+"/x")...); code != 0 || !strings.Contains(out, "200") {
					t.Errorf("%s in %s: exit %d\n%s", name, p.name(), code, out)
				}
			})
		}
		all.Wait()
		w.arrivals.HoldOwn(t, podCount)
	}
	for name, argv := range clients(w) {
		p := w.pods[3]
		if _, out := p.call(t, with(argv, "https://"+hosts()[0]+"/private")...); !strings.Contains(out, "403") {
			t.Errorf("%s: a path that is not allowed:\n%s", name, out)
		}
		if code, out := p.call(t, with(argv, other+p.name()+"/x")...); code == 0 && strings.Contains(out, "200") {
			t.Errorf("%s: a host that is not allowed:\n%s", name, out)
		}
	}
	w.unlisted(t)
	if list := w.arrivals.Take(); len(list) != 0 {
		t.Errorf("refused calls arrived: %+v", list)
	}
	r := w.await(t, "a refused call", func(r record) bool { return r.Reason == "path_not_allowed" })
	if r.Evidence != "process" || r.Workload != w.pods[3].id() || r.Pod != "pod3" || r.Original == "" {
		t.Errorf("record %+v", r)
	}
	w.packets.holdNone(t)
}

// unlisted: neither a host that no policy names nor plain HTTP gets through.
func (w *world) unlisted(t *testing.T) {
	t.Helper()
	p := w.pods[5]
	at := "unlisted.example:443:" + addressOf(hosts()[0], false)
	if code, out := p.call(t, "curl", "-sSi", "--resolve", at, "https://unlisted.example/public/pod5"); code == 0 {
		t.Errorf("an unlisted host: exit %d\n%s", code, out)
	}
	if _, out := p.call(t, "curl", "-sSi", "http://"+hosts()[0]+"/public/pod5"); !strings.Contains(out, "403 egret target/plaintext") {
		t.Errorf("plain HTTP:\n%s", out)
	}
	if code, out := p.call(t, "curl", "-sSi", "--max-time", "5", "--http3", "https://"+hosts()[0]+"/"); code == 0 {
		t.Errorf("QUIC: exit %d\n%s", code, out)
	}
}

// TestSpoofing: whatever address, server name or Host a pod shows, what leaves has its own
// credential or none.
func TestSpoofing(t *testing.T) {
	w, _, _ := newNode(t)
	a, b := w.pods[1], w.pods[2]
	// The other's path, its address, and the address of another host.
	for _, argv := range [][]string{
		{"--resolve", hosts()[0] + ":443:10.66.2.2"},
		{"--resolve", hosts()[0] + ":443:[fd66:2::2]"},
		{"--resolve", hosts()[0] + ":443:" + addressOf(hosts()[1], false)},
		{"-H", "Host: " + hosts()[0] + ":443"},
		{"-H", "X-Forwarded-For: 10.66.2.2", "-H", "Forwarded: for=10.66.2.2", "-H", "X-Forwarded-Client-Cert: URI=" + b.id()},
		{"-H", "Proxy-Authorization: Bearer " + b.id()},
	} {
		w.arrivals.Take()
		code, out := a.call(t, append(append([]string{"curl", "-sSi"}, argv...), "https://"+hosts()[0]+"/public/pod1/x")...)
		list := w.arrivals.Take()
		if len(list) != 1 || len(list[0].Keys) != 1 || list[0].Keys[0] != "pod1" {
			t.Errorf("%q: exit %d, arrived as %+v\n%s", argv, code, list, out)
		}
	}
	// The source address of the other: egret does not look at it.
	sh(t, "ip", "-n", a.ns, "addr", "add", "10.66.2.2/32", "dev", "lo")
	code, out := a.call(t, "curl", "-sSi4", "--interface", "10.66.2.2", "https://"+hosts()[0]+"/public/pod1/x")
	if list := w.arrivals.Take(); len(list) != 1 || len(list[0].Keys) != 1 || list[0].Keys[0] != "pod1" {
		t.Errorf("the other's source address: exit %d, arrived as %+v\n%s", code, list, out)
	}
	// The other's user, and another cgroup than any that is known.
	for what, p := range map[string]*pod{
		"the other's user":         {w: w, n: b.n, ns: a.ns, netns: a.netns, cgroup: a.cgroup},
		"the other's cgroup":       {w: w, n: a.n, ns: a.ns, netns: a.netns, cgroup: b.cgroup},
		"a user that nobody knows": {w: w, n: 99, ns: a.ns, netns: a.netns, cgroup: a.cgroup},
	} {
		if code, out := p.call(t, "curl", "-sSi", "https://"+hosts()[0]+"/public/pod1/x"); code == 0 && strings.Contains(out, "200") {
			t.Errorf("%s: exit %d\n%s", what, code, out)
		}
	}
	if list := w.arrivals.Take(); len(list) != 0 {
		t.Errorf("forged calls arrived: %+v", list)
	}
	w.packets.holdNone(t)
}
