// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/egret-proxy/egret/credential"
)

// permitSlack is an intermediate for slack.com and what is below it.
func permitSlack(host string) bool {
	return host == "slack.com" || strings.HasSuffix(host, ".slack.com")
}

// policyFolder has everything that the policy in testdata names, and returns a node
// that loads it.
func policyFolder(t testing.TB, input string) (*Node, string) {
	t.Helper()
	dir := newFolder(t)
	put(t, dir, "token", "xoxb-1\n", 0o600)
	node := Defaults()
	node.Certs.Issuer.File = []IssuerFile{{Chain: "chain.pem", Key: "key.pem"}}
	node.Policy.Paths = []PolicyPath{{Path: copyInto(t, dir, input)}}
	return &node, dir
}

func loadOptions() LoadOptions { return LoadOptions{Permits: permitSlack, Env: podEnv()} }

// TestBadPolicy loads one file per fault and compares the full text.
func TestBadPolicy(t *testing.T) {
	for _, input := range testdata(t, "bad/policy-*.yaml") {
		t.Run(filepath.Base(input), func(t *testing.T) {
			node, dir := policyFolder(t, input)
			bundle, faults := Load(node, loadOptions())
			if bundle != nil || len(faults) == 0 {
				t.Fatal("loaded without a fault")
			}
			if strings.Contains(faults.Error(), "hunter2") {
				t.Error("the faults show a secret")
			}
			golden(t, input, strings.ReplaceAll(faults.Error(), dir+"/", "")+"\n")
		})
	}
}

func mustLoad(t testing.TB, node *Node) *Bundle {
	t.Helper()
	bundle, faults := Load(node, loadOptions())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return bundle
}

func TestLoad(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	bundle := mustLoad(t, node)
	if n := len(bundle.Compiled.Set.Rules); n != 1 || bundle.Digest == "" {
		t.Errorf("%d rules, digest %q", n, bundle.Digest)
	}
	want := []string{filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "token")}
	if diff := cmp.Diff(want, bundle.Files); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want, bundle.Snapshot.Paths()); diff != "" {
		t.Errorf("watched (-want +got):\n%s", diff)
	}
	if !bundle.Snapshot.equal(bundle.Snapshot.now()) {
		t.Error("the snapshot is not of what was read")
	}
	put(t, dir, "token", "xoxb-2\n", 0o600)
	if bundle.Snapshot.equal(bundle.Snapshot.now()) {
		t.Error("a new secret is not seen")
	}
}

// TestLoadTellsWhatItLookedAt: with faults too, and with the file that is missing, so
// that its appearing is seen.
func TestLoadTellsWhatItLookedAt(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	check(t, os.Remove(filepath.Join(dir, "token")))
	var looked []Snapshot
	opt := loadOptions()
	opt.Looked = func(s Snapshot) { looked = append(looked, s) }
	if bundle, faults := Load(node, opt); bundle != nil || len(faults) != 1 {
		t.Fatalf("bundle %v, faults %v", bundle, faults)
	}
	want := []string{filepath.Join(dir, "policy.yaml"), filepath.Join(dir, "token")}
	if len(looked) != 1 || !cmp.Equal(want, looked[0].Paths()) {
		t.Fatalf("told %v, want once %v", looked, want)
	}
	put(t, dir, "token", "xoxb-1\n", 0o600)
	if looked[0].equal(looked[0].now()) {
		t.Error("the missing file's coming is not seen")
	}
}

func TestSnapshotWith(t *testing.T) {
	dir := t.TempDir()
	a, b := put(t, dir, "a", "1", 0o600), put(t, dir, "b", "1", 0o600)
	both := TakeSnapshot(a).With(TakeSnapshot(b))
	if diff := cmp.Diff([]string{a, b}, both.Paths()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	put(t, dir, "b", "2", 0o600)
	if both.equal(both.now()) {
		t.Error("a change of the second is not seen")
	}
}

// TestLoadIsStable: the same files give the same digest, another rule another.
func TestLoadIsStable(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	first := mustLoad(t, node)
	if again := mustLoad(t, node); again.Digest != first.Digest {
		t.Errorf("digest %s, then %s", first.Digest, again.Digest)
	}
	text, err := os.ReadFile(filepath.Join(dir, "policy.yaml"))
	check(t, err)
	put(t, dir, "policy.yaml", strings.Replace(string(text), "[POST]", "[GET]", 1), 0o600)
	if changed := mustLoad(t, node); changed.Digest == first.Digest {
		t.Error("another rule has the same digest")
	}
}

// TestMUST_G3_AllOrNothing: one faulty file among good ones, and nothing is loaded.
func TestMUST_G3_AllOrNothing(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	mustLoad(t, node)
	for name, text := range map[string]string{"decode": "kind: Nothing\n", "validate": workload("A"), "conflict": workload("nightly")} {
		extra := put(t, dir, "extra-"+name+".yaml", text, 0o600)
		with := *node
		with.Policy.Paths = append(slices.Clone(node.Policy.Paths), PolicyPath{Path: extra})
		if bundle, faults := Load(&with, loadOptions()); bundle != nil || len(faults) == 0 {
			t.Errorf("%s: bundle %v, faults %v", name, bundle, faults)
		}
	}
	mustLoad(t, node)
}

// TestMUST_K2_LoadFaultNamesTheCommand that makes an intermediate for the host.
func TestMUST_K2_LoadFaultNamesTheCommand(t *testing.T) {
	node, _ := policyFolder(t, "testdata/good/policy.yaml")
	opt := loadOptions()
	opt.Permits = nil // fail closed: nothing is known to be permitted
	_, faults := Load(node, opt)
	if len(faults) != 1 || faults[0].Path != "spec.hosts[0]" || faults[0].Line == 0 ||
		!strings.Contains(faults[0].Hint, "egret ca issue --root DIR --host slack.com --out DIR --replace") {
		t.Errorf("got %v", faults)
	}
	opt.PermitHint = func(host string) string { return "ask the CA team for " + host }
	if _, faults = Load(node, opt); !strings.Contains(faults.Error(), "(ask the CA team for slack.com)") {
		t.Errorf("got %v", faults)
	}
	node.Certs.Issuer = CertIssuer{Ephemeral: &Ephemeral{}}
	if _, faults = Load(node, opt); len(faults) > 0 {
		t.Errorf("an ephemeral issuer is made for what is loaded: %v", faults)
	}
}

// TestMUST_G1_ScopedSourceNamesNothing: no file that a scoped author names is looked
// at, whether it exists or not.
func TestMUST_G1_ScopedSourceNamesNothing(t *testing.T) {
	node, dir := policyFolder(t, "testdata/bad/policy-roots-missing.yaml")
	node.Policy.Paths[0].Scope = []string{"spiffe://acme.example/ns/qa/**"}
	env := podEnv().complete()
	opened := map[string]bool{}
	read := env.ReadFile
	env.ReadFile = func(name string) ([]byte, error) { opened[name] = true; return read(name) }
	opt := loadOptions()
	opt.Env = env
	_, faults := Load(node, opt)
	text := faults.Error()
	if strings.Contains(text, "no such file") || opened[filepath.Join(dir, "gone.pem")] {
		t.Errorf("a scoped author finds out about files: %s", text)
	}
	for _, kind := range []string{`"Destination"`, `"Credential"`} {
		if !strings.Contains(text, "kind: "+kind+": must be Workload or AccessPolicy in a source that has a scope") {
			t.Errorf("%s is not refused: %s", kind, text)
		}
	}
}

// TestMUST_T12_OwnCAIsNotARoot: a destination's roots may not hold our own CA.
func TestMUST_T12_OwnCAIsNotARoot(t *testing.T) {
	node, dir := policyFolder(t, "testdata/bad/policy-roots-missing.yaml")
	text, err := os.ReadFile(filepath.Join(dir, "policy-roots-missing.yaml"))
	check(t, err)
	put(t, dir, "policy-roots-missing.yaml", strings.Replace(string(text), "gone.pem", "chain.pem", 1), 0o600)
	opt := loadOptions()
	if _, faults := Load(node, opt); len(faults) > 0 {
		t.Fatal(faults)
	}
	opt.Authorities = readCertificates(t, filepath.Join(dir, "chain.pem"))
	if _, faults := Load(node, opt); len(faults) != 1 || faults[0].Path != "spec.tls.roots" {
		t.Errorf("got %v", faults)
	}
}

func TestSecretsFromElsewhere(t *testing.T) {
	node, dir := policyFolder(t, "testdata/bad/policy-env-not-allowed.yaml")
	opt := loadOptions()
	opt.Env.Getenv = func(k string) string {
		return map[string]string{"SLACK_TOKEN": "x", "CREDENTIALS_DIRECTORY": dir}[k]
	}
	node.Secrets.AllowEnv = true
	if _, faults := Load(node, opt); len(faults) > 0 {
		t.Errorf("an allowed variable: %v", faults)
	}
	opt.Env.Getenv = podEnv().Getenv
	if _, faults := Load(node, opt); !strings.Contains(faults.Error(), "must name a variable that is set") {
		t.Errorf("a variable that is not set: %v", faults)
	}
	systemd, dir := policyFolder(t, "testdata/bad/policy-systemd-none.yaml")
	opt.Env.Getenv = func(k string) string { return map[string]string{"CREDENTIALS_DIRECTORY": dir}[k] }
	if _, faults := Load(systemd, opt); !strings.Contains(faults.Error(), "systemdCredential") {
		t.Errorf("a systemd credential that is not there: %v", faults)
	}
	put(t, dir, "slack", "x", 0o600)
	if _, faults := Load(systemd, opt); len(faults) > 0 {
		t.Errorf("a systemd credential: %v", faults)
	}
}

const tokenCredential = `
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: slack-oauth}
spec:
  owner: qa@acme.example
  environment: production
  destinations: [slack]
  usableBy: [nightly]
  provider:
    oauth2:
      grant: client_credentials
      tokenURL: https://idp.example/token
      clientID: egret
      clientSecret: {file: token}
      endpoint: {roots: chain.pem, dial: "127.0.0.1:9443", allowPrivate: [127.0.0.0/8]}
  inject: [{header: X-Token, value: "{token}"}]
`

func TestBuild(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	text, err := os.ReadFile(filepath.Join(dir, "policy.yaml"))
	check(t, err)
	put(t, dir, "policy.yaml", string(text)+tokenCredential, 0o600)
	bundle := mustLoad(t, node)

	var asked []any
	specs, faults := Build(bundle, BuildOptions{Dial: func(hostPort string, private []netip.Prefix) DialFunc {
		asked = append(asked, hostPort, private[0].String())
		return func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for _, s := range specs {
		t.Cleanup(func() { _ = s.Close() })
	}
	if diff := cmp.Diff([]any{"127.0.0.1:9443", "127.0.0.0/8"}, asked); diff != "" {
		t.Errorf("dial (-want +got):\n%s", diff)
	}
	bot := specs[slices.IndexFunc(specs, func(s credential.Spec) bool { return s.Name == "slack-bot" })]
	token, err := bot.Provider.Fetch(t.Context(), credential.Key{}, nil)
	if err != nil || token.Values["token"].Reveal() != "xoxb-1" || !bot.Shared {
		t.Errorf("token %v, %v, shared %v", token, err, bot.Shared)
	}
}

// TestBuildLeavesNothingOpen: goleak sees the followers of providers that were made
// before another failed.
func TestBuildLeavesNothingOpen(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	text, err := os.ReadFile(filepath.Join(dir, "policy.yaml"))
	check(t, err)
	put(t, dir, "policy.yaml", string(text)+tokenCredential, 0o600)
	specs, faults := Build(mustLoad(t, node), BuildOptions{})
	want := `must be a credential that can be used: there is no way to reach issuers`
	if specs != nil || len(faults) != 1 || faults[0].Rule != want || faults[0].Value != "slack-oauth" {
		t.Errorf("specs %v, faults %v", specs, faults)
	}
}

// TestBuildFromElsewhere: secrets of the environment and of systemd reach the provider.
func TestBuildFromElsewhere(t *testing.T) {
	for _, input := range []string{"policy-env-not-allowed", "policy-systemd-none"} {
		node, dir := policyFolder(t, "testdata/bad/"+input+".yaml")
		put(t, dir, "slack", "xoxb-1", 0o600)
		node.Secrets.AllowEnv = true
		vars := map[string]string{"SLACK_TOKEN": "xoxb-1", "CREDENTIALS_DIRECTORY": dir}
		opt := loadOptions()
		opt.Env.Getenv = func(k string) string { return vars[k] }
		bundle, faults := Load(node, opt)
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		specs, faults := Build(bundle, BuildOptions{LookupEnv: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		t.Cleanup(func() { _ = specs[0].Close() })
		token, err := specs[0].Provider.Fetch(t.Context(), credential.Key{}, nil)
		if err != nil || token.Values["token"].Reveal() != "xoxb-1" {
			t.Errorf("%s: %v, %v", input, token, err)
		}
	}
}

// TestMUST_P3_OnlyRegularFiles: what would block or flood the load is refused unread.
func TestMUST_P3_OnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	env := Env{}.complete()
	big := put(t, dir, "big.yaml", "", 0o600)
	check(t, os.Truncate(big, maxFileBytes+1))
	for name, want := range map[string]string{
		big:                         "it has more than 4MiB",
		dir:                         "it is a folder",
		"/dev/null":                 "it is not a regular file",
		filepath.Join(dir, "gone"):  "no such file or directory",
		filepath.Join(big, "below"): "not a directory",
	} {
		if _, err := readFile(env, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

// TestFaultyCredentialKeepsItsRoots: another fault of the object does not make its roots
// seem to be those of a scoped source.
func TestFaultyCredentialKeepsItsRoots(t *testing.T) {
	node, dir := policyFolder(t, "testdata/good/policy.yaml")
	text, err := os.ReadFile(filepath.Join(dir, "policy.yaml"))
	check(t, err)
	for old, changed := range map[string]string{"destinations: [slack]": "destinations: [nowhere]", "environment: production": "environment: ''"} {
		put(t, dir, "policy.yaml", string(text)+strings.Replace(tokenCredential, old, changed, 1), 0o600)
		_, faults := Load(node, loadOptions())
		if len(faults) == 0 || strings.Contains(faults.Error(), "scope") {
			t.Errorf("%s: %v", changed, faults)
		}
	}
}
