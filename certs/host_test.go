// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCheckHost(t *testing.T) {
	tests := []struct {
		host string
		why  string // "" is fine
	}{
		{"slack.com", ""},
		{"a_b.example.com", ""},
		{"localhost", ""},
		{"xn--bcher-kva.example", ""},
		{strings.Repeat("a", 63) + ".com", ""},
		{"", "1 to 253"},
		{strings.Repeat("a.", 127), "1 to 253"},
		{strings.Repeat("a", 64) + ".com", "1 to 63"},
		{"slack.com.", "trailing dot"},
		{".slack.com", "leading or trailing dot"},
		{"a..b", "1 to 63"},
		{"Slack.com", "lower case"},
		{"bücher.example", "xn--"},
		{"*.slack.com", "only a-z"},
		{"slack.com:443", "only a-z"},
		{"slack.com\x00.evil.com", "only a-z"},
		{"-a.com", "hyphen"},
		{"a-.com", "hyphen"},
		{"127.0.0.1", "IP addresses"},
		{"::1", "IP addresses"},
		{"[::1]", "IP addresses"},
		{"fe80::1%eth0", "IP addresses"},
		{"127.1", "is a number"},
		{"host.0", "is a number"},
		{"host.0x7f", "is a number"},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			err := checkHost(tt.host)
			if tt.why == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, ErrInvalidHost) || !strings.Contains(err.Error(), tt.why) {
				t.Errorf("got %v, want ErrInvalidHost with %q", err, tt.why)
			}
		})
	}
}

func TestConstraintsOf(t *testing.T) {
	got, err := constraintsOf([]string{"slack.com", "*.slack.com", "api.github.com"})
	if err != nil || fmt.Sprint(got) != "[slack.com api.github.com]" {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = constraintsOf([]string{"com", "*.co.uk", "10.0.0.1", "ok.example"})
	for _, want := range []string{`"com"`, `"*.co.uk"`, `"10.0.0.1"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}

// The property: whatever checkHost lets through is what x509 can sign and verify, and
// nothing of it reads as an address.
func FuzzCheckHost(f *testing.F) {
	for _, s := range []string{"slack.com", "a_b.c", "1.2.3.4", "x.0x7f", "a-", "*.x", "é", "\x00", "::1"} {
		f.Add(s)
	}
	root := newRoot(f, "slack.com")
	key := newKey(f)
	f.Fuzz(func(t *testing.T, host string) {
		if checkHost(host) != nil {
			return
		}
		tmpl := caTemplate("intermediate", "", []string{host})
		tmpl.NotAfter = root.cert.NotAfter
		ca, err := signCA(tmpl, root)
		if err != nil {
			t.Fatalf("no intermediate for %q: %v", host, err)
		}
		der, err := ca.leaf(host, key.Public(), time.Hour)
		if err != nil {
			t.Fatalf("no leaf for %q: %v", host, err)
		}
		cert, err := checkLeaf([][]byte{der}, host, key.Public())
		if err != nil {
			t.Fatalf("leaf for %q: %v", host, err)
		}
		if err := cert.VerifyHostname(host); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCheckHosts(t *testing.T) {
	e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: []string{"slack.com", "*.github.com"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckHosts(e, []string{"slack.com", "*.slack.com", "api.github.com", "*.github.com"}); err != nil {
		t.Error(err)
	}
	err = CheckHosts(e, []string{"slack.com", "evil.com", "*.example.com"})
	want := `no loaded intermediate permits this host: "evil.com" (make one with: egret ca issue --root DIR --host "evil.com" --out DIR)
no loaded intermediate permits this host: "*.example.com" (make one with: egret ca issue --root DIR --host "*.example.com" --out DIR)`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
