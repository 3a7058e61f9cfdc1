// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLoadTests(t *testing.T) {
	dir := t.TempDir()
	good := "tests:\n  - name: one\n    as: spiffe://acme.example/a\n    request: GET https://slack.com/x\n    want: allow\n"
	writeTest(t, filepath.Join(dir, "sub", "a_test.yaml"), good)
	writeTest(t, filepath.Join(dir, "policy.yaml"), "not: a test\n")
	tests, faults := LoadTests(dir)
	if len(faults) > 0 || len(tests) != 1 || tests[0].Line != 2 || tests[0].Name != "one" {
		t.Fatalf("tests %+v, faults %v", tests, faults)
	}
	writeTest(t, filepath.Join(dir, "b_test.yml"), "tests:\n  - name: two\n    want: perhaps\n    wnat: x\n")
	_, faults = LoadTests(dir)
	text := ""
	for _, f := range faults {
		text += f.Error() + "\n"
	}
	for _, want := range []string{"tests[0].as", "tests[0].request", `"perhaps": must be one of allow, deny, tunnel`, "wnat"} {
		if !strings.Contains(text, want) {
			t.Errorf("no fault about %s in:\n%s", want, text)
		}
	}
}

// Tests stand beside the policy that they are about and are not policy.
func TestTestFilesAreNotPolicy(t *testing.T) {
	dir := t.TempDir()
	writeTest(t, filepath.Join(dir, "a_test.yaml"), "tests: []\n")
	writeTest(t, filepath.Join(dir, "w.yaml"), `apiVersion: egret.dev/v1alpha1
kind: Workload
metadata: {name: w}
spec: {spiffeID: "spiffe://acme.example/w", owner: o@acme.example, purpose: tests, environment: production}
`)
	docs, faults := LoadPolicy([]PolicyPath{{Path: dir}})
	if len(faults) > 0 || len(docs.Objects) != 1 {
		t.Fatalf("%d objects, faults %v", len(docs.Objects), faults)
	}
}

func writeTest(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
