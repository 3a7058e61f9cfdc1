// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/certs"
)

// runVerb runs a command as main would and returns what it printed.
func runVerb(t testing.TB, cmd *cobra.Command, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetIn(strings.NewReader(""))
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err = cmd.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func mustCA(t testing.TB, args ...string) string {
	t.Helper()
	out, _, err := runVerb(t, newCACommand(), args...)
	if err != nil {
		t.Fatalf("ca %q: %v", args, err)
	}
	return out
}

// The way of a person from nothing to a node that can serve.
func TestCAFromInitToIssuer(t *testing.T) {
	dir := t.TempDir()
	ca, issuer := filepath.Join(dir, "ca"), filepath.Join(dir, "issuer")
	out := mustCA(t, "init", "--domains", "slack.com,github.com", "--organization", "Acme", "--out", ca)
	if !strings.Contains(out, "next: egret ca issue --root "+ca) {
		t.Errorf("init does not say what to do next:\n%s", out)
	}
	out = mustCA(t, "issue", "--root", ca, "--host", "slack.com", "--host", "*.github.com", "--out", issuer, "--ttl", "30d")
	chain, key := filepath.Join(issuer, "chain.pem"), filepath.Join(issuer, "key.pem")
	if want := "certs: {issuer: {file: [{chain: " + chain + ", key: " + key + "}]}}"; !strings.Contains(out, want) {
		t.Errorf("issue does not say %q:\n%s", want, out)
	}
	for path, want := range map[string]fs.FileMode{filepath.Join(ca, "root.pem"): 0o600, key: 0o600, chain: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
	f, err := certs.NewFileIssuer(certs.IssuerFile{Chain: chain, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	if !f.Permits("slack.com") || !f.Permits("api.github.com") || f.Permits("evil.com") {
		t.Error("the issuer permits other hosts than asked for")
	}
	mustCA(t, "issue", "--root", ca, "--host", "github.com", "--out", issuer, "--replace")
	if err := f.Reload(); err != nil || f.Permits("slack.com") {
		t.Errorf("--replace: %v", err)
	}
}

func TestCARotate(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca")
	bundle := filepath.Join(ca, "ca.pem")
	mustCA(t, "init", "--domains", "slack.com", "--out", ca)
	steps := []struct {
		args  []string
		roots int
		says  string
	}{
		{[]string{"rotate", "--root", ca, "--domains", "slack.com,github.com"}, 2, "--promote"},
		{[]string{"rotate", "--root", ca, "--promote"}, 2, "--finish"},
		{[]string{"rotate", "--root", ca, "--finish"}, 1, "give trust/ to every client"},
	}
	for _, s := range steps {
		if out := mustCA(t, s.args...); !strings.Contains(out, s.says) {
			t.Errorf("%q does not say %q:\n%s", s.args, s.says, out)
		}
		if list, err := certs.ReadCertificates(bundle); err != nil || len(list) != s.roots {
			t.Errorf("%q: %d roots in ca.pem, %v; want %d", s.args, len(list), err, s.roots)
		}
	}
	mustCA(t, "issue", "--root", ca, "--host", "github.com", "--out", t.TempDir())
}

func TestCAShow(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca")
	mustCA(t, "init", "--domains", "slack.com", "--organization", "Acme\x1b[31m", "--out", ca)
	out := mustCA(t, "show", ca)
	if !strings.Contains(out, "root") || !strings.Contains(out, "slack.com") || strings.Contains(out, "\x1b") || strings.Contains(out, "PRIVATE") {
		t.Errorf("table:\n%s", out)
	}
	var list []shownCert
	if err := json.Unmarshal([]byte(mustCA(t, "show", filepath.Join(ca, "ca.pem"), "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list) != 1 || list[0].Kind != "root" || !list[0].Egret || list[0].Names[0] != "slack.com" || !strings.HasPrefix(list[0].Fingerprint, "sha256:") {
		t.Errorf("json: %+v", list)
	}
}

func TestCABundle(t *testing.T) {
	dir := t.TempDir()
	ca, system, trust := filepath.Join(dir, "ca"), filepath.Join(dir, "system"), filepath.Join(dir, "trust")
	mustCA(t, "init", "--domains", "slack.com", "--out", ca)
	mustCA(t, "init", "--domains", "system.example", "--out", system)
	out := mustCA(t, "bundle", "--ca", filepath.Join(ca, "ca.pem"), "--system", filepath.Join(system, "ca.pem"), "--out", trust)
	for name, want := range map[string]int{"bundle.pem": 2, "ca.pem": 1} {
		path := filepath.Join(trust, name)
		if list, err := certs.ReadCertificates(path); err != nil || len(list) != want || !strings.Contains(out, path) {
			t.Errorf("%s: %d certificates, %v\n%s", name, len(list), err, out)
		}
	}
	for _, name := range []string{"trust.p12", "php.ini", "wgetrc"} {
		if _, err := os.Stat(filepath.Join(trust, name)); err != nil {
			t.Error(err)
		}
	}
}

func TestCAFaults(t *testing.T) {
	dir := t.TempDir()
	ca, issuer := filepath.Join(dir, "ca"), filepath.Join(dir, "issuer")
	mustCA(t, "init", "--domains", "slack.com", "--out", ca)
	mustCA(t, "issue", "--root", ca, "--host", "slack.com", "--out", issuer)
	before, err := os.ReadFile(filepath.Join(ca, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"init twice", []string{"init", "--domains", "slack.com", "--out", ca}, "a root is replaced with: egret ca rotate --root " + ca},
		{"issue twice", []string{"issue", "--root", ca, "--host", "slack.com", "--out", issuer}, "renew with: --replace"},
		{"no root", []string{"issue", "--root", dir, "--host", "slack.com", "--out", issuer}, "make a root with: egret ca init"},
		{"host outside", []string{"issue", "--root", ca, "--host", "evil.com", "--out", dir}, `"evil.com" is outside the root's domains ["slack.com"]`},
		{"bad ttl", []string{"issue", "--root", ca, "--host", "slack.com", "--out", dir, "--ttl", "soon"}, `--ttl "soon" is not a lifetime`},
		{"long ttl", []string{"issue", "--root", ca, "--host", "slack.com", "--out", dir, "--ttl", "91d"}, "is not within"},
		{"public suffix", []string{"init", "--domains", "com", "--out", filepath.Join(dir, "x")}, "a public suffix"},
		{"no domains", []string{"init", "--out", dir}, `required flag(s) "domains" not set`},
		{"promote first", []string{"rotate", "--root", ca, "--promote"}, "run first: egret ca rotate"},
		{"finish first", []string{"rotate", "--root", ca, "--finish"}, "no rotation to finish"},
		{"two steps", []string{"rotate", "--root", ca, "--promote", "--finish"}, "none of the others can be"},
		{"show nothing", []string{"show", dir}, "no certificate in"},
		{"show a key", []string{"show", filepath.Join(issuer, "key.pem")}, "no PEM block of type CERTIFICATE"},
		{"show as xml", []string{"show", ca, "-o", "xml"}, `--output "xml" is not table or json`},
		{"bundle of nothing", []string{"bundle", "--ca", "/nonexistent", "--out", dir}, "/nonexistent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, _, err := runVerb(t, newCACommand(), tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if after, _ := os.ReadFile(filepath.Join(ca, "root.pem")); !bytes.Equal(before, after) {
		t.Error("a refused command changed the root")
	}
}

func TestEveryCAVerbHasAnExample(t *testing.T) {
	for _, c := range newCACommand().Commands() {
		if c.Example == "" || c.Long == "" {
			t.Errorf("egret ca %s has no example or no description", c.Name())
		}
	}
}

func TestParseTTLTellsTheMostInDays(t *testing.T) {
	t.Parallel()
	if _, err := parseTTL("1000d"); err == nil || !strings.Contains(err.Error(), "at most 732d") {
		t.Errorf("got %v", err)
	}
	if ttl, err := parseTTL("732d"); err != nil || ttl != certs.MaxRootTTL {
		t.Errorf("got %v, %v", ttl, err)
	}
}
