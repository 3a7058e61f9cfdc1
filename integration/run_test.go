// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"os"
	"strings"
	"testing"
)

// Every client makes a call for which egret has the credential, is refused another one
// inside TLS, refuses egret's certificate where egret exec does not make it trusted, and
// needs nothing but the variables that docs/clients.md names.
func TestClients(t *testing.T) {
	e := newWorld(t).start(t, "")
	all := clients()
	worked := make([]client, 0, len(all))
	for _, c := range all {
		c = c.withDefaults()
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			e.injects(t, c)
			e.refuses(t, c)
			e.mistrusts(t, c)
			e.needsOnly(t, c)
			if !t.Failed() {
				worked = append(worked, c)
			}
		})
	}
	t.Log("\n" + plainTable(worked))
	if t.Failed() || len(worked) != len(all) {
		return // a part of the tests was run, or some failed: docs/clients.md cannot be compared
	}
	checkDocument(t, worked)
}

// injects: the client holds no credential, and the SaaS sees a good one.
func (e *egret) injects(t *testing.T, c client) {
	t.Helper()
	e.quiet(t)
	got := e.exec(t, "sidecar", c.command(t, c.good))
	e.injected(t, c, got)
}

func (e *egret) injected(t *testing.T, c client, got result) {
	t.Helper()
	if got.code != 0 || !strings.Contains(got.all(), c.answer) {
		t.Errorf("%s: exit %d, want 0 and %q\n%s", c.good, got.code, c.answer, got.all())
	}
	e.withheld(t, got)
	arrived := e.world.arrivals.take()
	for _, a := range arrived {
		if a.Host != c.host && a.Host != c.host+":443" || a.Proto != c.proto || !a.Ours {
			t.Errorf("arrived at the SaaS: %+v, want %s by %s with egret's credential", a, c.host, c.proto)
		}
	}
	if len(arrived) != c.requests {
		t.Errorf("%d requests arrived, want %d: %+v", len(arrived), c.requests, arrived)
	}
	sent := "none"
	if c.placehold != "" {
		sent = "placeholder"
	}
	for _, r := range e.records(t, c.requests) {
		if r.Kind == "stream_start" {
			continue // all of it is in the record of the stream's end
		}
		if r.Verdict != "allow" || r.Workload != idPrefix+"app" || r.Evidence != "sidecar" || r.Credential == "" || r.CallerCredential != sent {
			t.Errorf("recorded %+v, want it allowed to app with a credential and the caller's %s", r, sent)
		}
	}
}

// refuses: a path that policy does not allow is refused inside TLS, where the client can
// say why, and does not arrive.
func (e *egret) refuses(t *testing.T, c client) {
	t.Helper()
	e.quiet(t)
	got := e.exec(t, "sidecar", c.command(t, c.bad))
	for _, want := range c.refusal {
		if !strings.Contains(got.all(), want) {
			t.Errorf("%s: the client does not see %q\n%s", c.bad, want, got.all())
		}
	}
	for _, a := range e.world.arrivals.take() {
		if !strings.Contains(a.Path, "ServerReflection") { // grpcurl asks for the types first
			t.Errorf("arrived at the SaaS: %+v", a)
		}
	}
	denied := 0
	for _, r := range e.records(t, 1) {
		if r.Verdict == "deny" && r.Layer == "policy" && r.Reason == "path_not_allowed" {
			denied++
		}
	}
	if denied == 0 {
		t.Error("the refusal was not recorded")
	}
}

// mistrusts: with the proxy variables alone the client refuses egret's certificate, so
// that its trust comes from egret exec and from nowhere else.
func (e *egret) mistrusts(t *testing.T, c client) {
	t.Helper()
	e.quiet(t)
	got := e.less(t, c, "proxies")
	if got.code == 0 || strings.Contains(got.stdout, c.answer) {
		t.Errorf("without egret's CA: exit %d\n%s", got.code, got.all())
	}
	if a := e.world.arrivals.take(); len(a) != 0 {
		t.Errorf("without egret's CA: arrived at the SaaS: %+v", a)
	}
	if c.silent {
		if !strings.Contains(got.stderr, "certificate") {
			t.Errorf("the client did not refuse the certificate\n%s", got.all())
		}
		return
	}
	for _, r := range e.records(t, 1) {
		if r.Kind == "handshake" {
			return
		}
	}
	t.Errorf("the client did not come to egret\n%s", got.all())
}

// needsOnly: the variables that docs/clients.md names are enough.
func (e *egret) needsOnly(t *testing.T, c client) {
	t.Helper()
	e.quiet(t)
	e.injected(t, c, e.less(t, c, strings.Join(c.needs, ",")))
}

func (e *egret) less(t *testing.T, c client, keep string) result {
	t.Helper()
	return e.exec(t, "sidecar", c.command(t, c.good, os.Getenv(goclientVar), "env", keep, "--"))
}

// quiet forgets what came before.
func (e *egret) quiet(t *testing.T) {
	t.Helper()
	e.world.arrivals.take()
	e.newRecords(t)
}

// withheld: the client has not seen a credential.
func (e *egret) withheld(t *testing.T, got result) {
	t.Helper()
	for name, key := range e.world.keys {
		if strings.Contains(got.all(), key.Reveal()) {
			t.Errorf("the client has the key of %s", name)
		}
	}
}
