// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
)

// TestPolicyHasWhatTheReportNames counts; that egret loads it is proved where it is run.
func TestPolicyHasWhatTheReportNames(t *testing.T) {
	for _, c := range []struct{ grants, workloads int }{{1, 1}, {10, 1}, {1234, 124}} {
		text := node{origin: "127.0.0.1:3"}.policy(c.grants)
		for kind, want := range map[string]int{"AccessPolicy": c.grants, "Workload": c.workloads, "Destination": targets, "Credential": 1} {
			if got := strings.Count(text, "kind: "+kind+"\n"); got != want {
				t.Errorf("%d grants have %d documents of kind %s, want %d", c.grants, got, kind, want)
			}
		}
	}
}

func TestLeafIsForItsHost(t *testing.T) {
	ca, err := newCA("origin")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := ca.leaf(Host)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	if _, err := leaf.cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: Host}); err != nil {
		t.Error(err)
	}
	if _, err := leaf.cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "elsewhere.test"}); err == nil {
		t.Error("the certificate is good for another host")
	}
}

func TestProcessesThatDoNotStart(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	script := filepath.Join(t.TempDir(), "sick")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho it is ill >&2\necho hello\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := listening(ctx, "", script); err == nil || !strings.Contains(err.Error(), "sick did not start") {
		t.Errorf("a program that does not listen gives %v", err)
	}
	if _, err := output(ctx, "", nil, script); err == nil || !strings.Contains(err.Error(), "exit status 3: it is ill") {
		t.Errorf("a program that fails gives %v", err)
	}
	if _, _, err := listening(ctx, "", "/nowhere/at/all"); err == nil {
		t.Error("a program that is not there has started")
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	var s tail
	for range 100 {
		_, _ = s.Write([]byte(strings.Repeat("x", 100)))
	}
	_, _ = s.Write([]byte("end\n"))
	if got := s.String(); len(got) > tailSize || !strings.HasSuffix(got, "xend") {
		t.Errorf("%d bytes, ending in %q", len(got), got[max(0, len(got)-8):])
	}
}

func TestAim(t *testing.T) {
	r := &Rig{opt: Options{Dir: "/d"}, token: "t", address: map[string]string{Direct: "o:1", Goproxy: "g:2", Egret: "e:3"},
		pids: map[string]int{Direct: 1, Goproxy: 2, Egret: 3}}
	for target, want := range map[string]load.Spec{
		Direct:  {Dial: "o:1", Roots: "/d/origin-ca.pem", Token: "t"},
		Goproxy: {Proxy: "http://g:2", Roots: "/d/goproxy-ca.pem"},
		Egret:   {Proxy: "http://e:3", Roots: "/d/ca/ca.pem"},
	} {
		got := r.Aim(load.Spec{Bytes: 7}, target)
		if got.Dial != want.Dial || got.Proxy != want.Proxy || got.Roots != want.Roots || got.Token != want.Token {
			t.Errorf("%s: %+v, want %+v", target, got, want)
		}
		if got.URL != "https://api-00.bench.example/v1/area-00/7" || got.PIDs["origin"] != 1 || target != Direct && got.PIDs["proxy"] != r.pids[target] {
			t.Errorf("%s: %s, %v", target, got.URL, got.PIDs)
		}
	}
}
