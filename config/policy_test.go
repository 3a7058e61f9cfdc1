// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const oneWorkload = `apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: %}
spec: {spiffeID: spiffe://acme.example/ns/qa/sa/%, owner: qa, purpose: tests, environment: production}
`

func workload(name string) string { return strings.ReplaceAll(oneWorkload, "%", name) }

func names(d *Documents) []string {
	var out []string
	for _, o := range d.Objects {
		if o.Workload != nil {
			out = append(out, o.Workload.Metadata.Name)
		}
	}
	return out
}

// TestLoadPolicyFinds: what is read below a folder, in which order, and what is not.
func TestLoadPolicyFinds(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "b.yaml", workload("b1")+"---\n"+workload("b2")+"---\n# nothing\n", 0o600)
	put(t, dir, "a.yml", workload("a"), 0o600)
	put(t, dir, "c/deep/c.yaml", workload("c"), 0o600)
	put(t, dir, ".hidden.yaml", workload("hidden"), 0o600)
	put(t, dir, ".git/x.yaml", workload("git"), 0o600)
	put(t, dir, "..v1/d.yaml", workload("d"), 0o600)
	put(t, dir, "notes.txt", "not: [policy", 0o600)
	put(t, dir, "b.yaml.bak", "not: [policy", 0o600)
	check(t, os.Symlink("..v1", filepath.Join(dir, "..data")))
	check(t, os.Symlink("..data/d.yaml", filepath.Join(dir, "d.yaml")))
	check(t, os.Symlink("a.yml", filepath.Join(dir, "e-again.yaml")))
	check(t, os.Symlink(".", filepath.Join(dir, "f-circle")))

	docs, faults := LoadPolicy([]PolicyPath{{Path: dir}})
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	if diff := cmp.Diff([]string{"a", "b1", "b2", "c", "d"}, names(docs)); diff != "" {
		t.Errorf("objects (-want +got):\n%s", diff)
	}
	if got := docs.Objects[4].Source; got != filepath.Join(dir, "d.yaml") {
		t.Errorf("source is %q, want the name beside the link", got)
	}
	if diff := cmp.Diff([]string{dir, filepath.Join(dir, "c"), filepath.Join(dir, "c/deep")}, docs.Dirs); diff != "" {
		t.Errorf("folders (-want +got):\n%s", diff)
	}
}

// TestMUST_P3_PolicyThatCannotBeRead is a fault, whatever the reason.
func TestMUST_P3_PolicyThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "empty/README", "", 0o600)
	put(t, dir, "dangling/ok.yaml", workload("ok"), 0o600)
	check(t, os.Symlink("gone", filepath.Join(dir, "dangling/x.yaml")))
	put(t, dir, "folder/x.yaml/y.yaml", workload("y"), 0o600)
	for name, want := range map[string]string{
		"gone":     "gone: must be a file that can be read: no such file or directory (it is named by policy.paths)",
		"empty":    "empty: must hold at least one *.yaml or *.yml file (it is named by policy.paths)",
		"dangling": "dangling/x.yaml: must be a file that can be read: no such file or directory",
		"folder":   "",
	} {
		_, faults := LoadPolicy([]PolicyPath{{Path: filepath.Join(dir, name)}})
		if got := strings.ReplaceAll(faults.Error(), dir+"/", ""); got != want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
		}
	}
}

// TestMUST_G1_ScopedFilesStayInside: authors of a scoped folder reach nothing else,
// and no file has two sets of rights.
func TestMUST_G1_ScopedFilesStayInside(t *testing.T) {
	dir := t.TempDir()
	scope := []string{"spiffe://acme.example/ns/qa/**"}
	put(t, dir, "platform/p.yaml", workload("p"), 0o600)
	put(t, dir, "teams/qa/q.yaml", workload("q"), 0o600)
	put(t, dir, "teams-evil/e.yaml", workload("e"), 0o600)
	team, platform := filepath.Join(dir, "teams/qa"), filepath.Join(dir, "platform")

	docs, faults := LoadPolicy([]PolicyPath{{Path: platform}, {Path: team, Scope: scope}})
	if len(faults) > 0 || docs.Objects[0].Scope != nil || cmp.Diff(scope, docs.Objects[1].Scope) != "" {
		t.Fatalf("scopes %v, faults %v", docs.Objects, faults)
	}
	_, faults = LoadPolicy([]PolicyPath{{Path: dir}, {Path: team, Scope: scope}})
	if !strings.Contains(faults.Error(), "must be reached by one entry of policy.paths only") {
		t.Errorf("a file with two sets of rights: %v", faults)
	}
	for _, target := range []string{"../../platform/p.yaml", "../../platform", "../../teams-evil/e.yaml"} {
		link := filepath.Join(team, "x.yaml")
		check(t, os.Symlink(target, link))
		_, faults := LoadPolicy([]PolicyPath{{Path: team, Scope: scope}})
		if !strings.Contains(faults.Error(), "must not be a link out of its folder") {
			t.Errorf("link to %s: %v", target, faults)
		}
		check(t, os.Remove(link))
	}
}

// TestLoadPolicyResolvesFiles: relative to the document, and only where files may be
// named at all.
func TestLoadPolicyResolvesFiles(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "sub/c.yaml", `apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: a}
spec: {provider: {oauth2: {endpoint: {roots: ca.pem}, clientSecret: {file: ../s}}}}
---
apiVersion: egret.dev/v1alpha1
kind: Credential
metadata: {name: b}
spec: {provider: {static: {value: {file: /abs}}}}
---
apiVersion: egret.dev/v1alpha1
kind: Destination
metadata: {name: c}
spec: {tls: {roots: ./ca.pem}}
`, 0o600)
	for _, scope := range [][]string{nil, {"spiffe://a.example/**"}} {
		docs, faults := LoadPolicy([]PolicyPath{{Path: dir, Scope: scope}})
		if len(faults) > 0 {
			t.Fatal(faults)
		}
		var got []string
		for i := range docs.Objects {
			for _, f := range fileFields(&docs.Objects[i]) {
				got = append(got, *f)
			}
		}
		want := []string{"../s", "ca.pem", "/abs", "./ca.pem"}
		if scope == nil {
			want = []string{filepath.Join(dir, "s"), filepath.Join(dir, "sub/ca.pem"), "/abs", filepath.Join(dir, "sub/ca.pem")}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("scope %v (-want +got):\n%s", scope, diff)
		}
	}
}
