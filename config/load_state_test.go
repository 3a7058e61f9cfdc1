// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// withState is a policy whose Slack app keeps its tokens in a file beside it, which is there.
func withState(t *testing.T) (node *Node, state string) {
	t.Helper()
	node, dir := policyFolder(t, "testdata/bad/policy-p3-state-missing.yaml")
	return node, put(t, dir, "state", "xoxe-1-first\n", 0o600)
}

// TestStateFilesAreNotWatched: what egret writes is no change of policy.
func TestStateFilesAreNotWatched(t *testing.T) {
	node, state := withState(t)
	b := mustLoad(t, node)
	if slices.Contains(b.Files, state) || slices.Contains(b.Snapshot.Paths(), state) {
		t.Errorf("%v, %v", b.Files, b.Snapshot.Paths())
	}
	put(t, filepath.Dir(state), "state", "xoxe-1-second\n", 0o600)
	put(t, filepath.Dir(state), "state.lock", "", 0o600)
	if !b.Snapshot.now().equal(b.Snapshot) {
		t.Error("a rotation starts a reload")
	}
	if again := mustLoad(t, node); again.Digest != b.Digest {
		t.Error("a rotation changes the digest")
	}
	token := filepath.Join(filepath.Dir(state), "token")
	put(t, filepath.Dir(state), "token", "another", 0o600)
	if !slices.Contains(b.Files, token) || b.Snapshot.now().equal(b.Snapshot) {
		t.Error("the client's secret is not watched")
	}
}

func TestStateFilesInAFolderOfPolicy(t *testing.T) {
	node, state := withState(t)
	dir := filepath.Dir(state)
	node.Policy.Paths = []PolicyPath{{Path: dir}}
	if err := os.Remove(filepath.Join(dir, "policy.yaml")); err != nil { // an empty one, of the node's own
		t.Fatal(err)
	}
	_, faults := Load(node, loadOptions())
	if len(faults) != 1 || faults[0].Path != "spec.provider.slack.stateFile" || !strings.Contains(faults[0].Rule, "must not be in a folder of policy") {
		t.Errorf("%v", faults)
	}
	text, err := os.ReadFile(filepath.Join(dir, "policy-p3-state-missing.yaml"))
	check(t, err)
	put(t, dir, "policy-p3-state-missing.yaml", strings.Replace(string(text), "stateFile: state", "stateFile: .egret/state", 1), 0o600)
	put(t, dir, ".egret/state", "xoxe-1-first\n", 0o600)
	b := mustLoad(t, node) // what begins with a dot is not looked at
	put(t, dir, ".egret/state", "xoxe-1-second\n", 0o600)
	if !b.Snapshot.now().equal(b.Snapshot) {
		t.Error("a rotation starts a reload")
	}
}

func TestMUST_P3_AStateThatCannotBeKept(t *testing.T) {
	for name, x := range map[string]struct {
		change func(t *testing.T, state string, opt *LoadOptions)
		want   string
	}{
		"good": {func(*testing.T, string, *LoadOptions) {}, ""},
		"read only": {func(_ *testing.T, _ string, o *LoadOptions) {
			o.Env.Writable = func(string) error { return syscall.EROFS }
		}, "must be in a folder that egret can write to: read-only file system"},
		"a link": {func(t *testing.T, state string, _ *LoadOptions) {
			check(t, os.Rename(state, state+".real"))
			check(t, os.Symlink("state.real", state))
		}, "no link"},
		"of all":    {func(t *testing.T, state string, _ *LoadOptions) { check(t, os.Chmod(state, 0o604)) }, "its mode is 0604"},
		"of others": {func(t *testing.T, state string, _ *LoadOptions) { check(t, os.Chmod(state, 0o640)) }, ""}, // a group of replicas
		"too large": {func(t *testing.T, state string, _ *LoadOptions) { check(t, os.Truncate(state, 2<<20)) }, "it has more than"},
		"elsewhere": {func(t *testing.T, state string, o *LoadOptions) {
			o.SecretsElsewhere = true
			check(t, os.Remove(state))
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			node, state := withState(t)
			opt := loadOptions()
			x.change(t, state, &opt)
			_, faults := Load(node, opt)
			if x.want == "" && len(faults) > 0 || x.want != "" && (len(faults) != 1 || !strings.Contains(faults[0].Rule, x.want)) {
				t.Errorf("got %v, want %q", faults, x.want)
			}
		})
	}
}

// TestWritable asks the kernel for real.
func TestWritable(t *testing.T) {
	dir := t.TempDir()
	if err := writable(dir); err != nil {
		t.Error(err)
	}
	if err := writable(filepath.Join(dir, "gone")); err == nil {
		t.Error("a folder that is not there can be written to")
	}
}

// In a review neither the folder of a state nor the node that allows programs is there.
func TestNotesOfAReview(t *testing.T) {
	opt := loadOptions()
	opt.SecretsElsewhere = true
	for input, want := range map[string][]string{
		"policy-p3-state-no-folder.yaml": {"state file gone/state is not here; egret run needs it"},
		"policy-exec-not-allowed.yaml": {
			"program /bin/sh runs only where egret.yaml has secrets: {allowPrograms: [/bin/sh]}",
			"program /bin/sh gets variables of egret's environment only where egret.yaml has secrets: {allowEnv: true}",
		},
	} {
		node, _ := policyFolder(t, "testdata/bad/"+input)
		b, faults := Load(node, opt)
		if len(faults) > 0 {
			t.Errorf("%s: %v", input, faults)
			continue
		}
		for _, n := range want {
			if !slices.Contains(b.Notes, n) {
				t.Errorf("%s: no note %q in %q", input, n, b.Notes)
			}
		}
	}
}
