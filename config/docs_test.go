// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// fragment stands in the line before a block that is no whole document.
const fragment = "<!-- fragment -->"

// block is what a document shows as YAML.
type block struct {
	line     int // of the fence
	text     string
	fragment bool
}

func (b block) isPolicy() bool { return strings.Contains("\n"+b.text, "\napiVersion:") }

// blocks are those of a Markdown text. One that does not end is an error.
func blocks(markdown string) (found []block, err error) {
	var open *block
	before := ""
	for i, line := range strings.Split(markdown, "\n") {
		text := strings.TrimSpace(line)
		switch {
		case open != nil && text == "```":
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(text, "```yaml"), strings.HasPrefix(text, "```yml"):
			open = &block{line: i + 1, fragment: before == fragment}
		}
		before = text
	}
	if open != nil {
		return nil, fmt.Errorf("line %d: the block does not end", open.line)
	}
	return found, nil
}

// TestDocuments: what the documents show can be copied. Whole settings and whole policies
// pass the loader; a part of a policy has at least no unknown member.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("../docs/*.md")
	check(t, err)
	whole := map[bool]int{}
	for _, name := range append(files, "../README.md") {
		text, err := os.ReadFile(name)
		check(t, err)
		found, err := blocks(string(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for _, b := range found {
			t.Run(fmt.Sprintf("%s:%d", filepath.Base(name), b.line), func(t *testing.T) { holdBlock(t, b) })
			if !b.fragment {
				whole[b.isPolicy()]++
			}
		}
	}
	if whole[true] < 1 || whole[false] < 3 {
		t.Errorf("only %d policies and %d settings found", whole[true], whole[false])
	}
}

func holdBlock(t *testing.T, b block) {
	t.Helper()
	switch {
	case b.isPolicy():
		if err := policyBlock(t, b); err != nil {
			t.Error(err)
		}
	case !b.fragment:
		if err := settingsBlock(t, b); err != nil {
			t.Errorf("%v\nput %s before the block if it is a part of something", err, fragment)
		}
	}
}

// policyBlock loads a policy, and compiles it where it is whole.
func policyBlock(t *testing.T, b block) error {
	t.Helper()
	docs, faults := LoadPolicy([]PolicyPath{{Path: put(t, t.TempDir(), "policy.yaml", b.text, 0o600)}})
	if len(faults) > 0 {
		return faults
	}
	if b.fragment {
		return nil
	}
	_, found := api.Compile(docs.Objects, api.Options{Roots: func(string) (*x509.CertPool, string, error) {
		return x509.NewCertPool(), "digest", nil
	}})
	for _, f := range found {
		faults = append(faults, docs.Fault(f.Object, f.Fault))
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// settingsBlock loads settings in a folder that has what the documents name.
func settingsBlock(t *testing.T, b block) error {
	t.Helper()
	dir := t.TempDir()
	cert, key := newPair(t)
	put(t, dir, "issuer/chain.pem", cert, 0o644)
	put(t, dir, "issuer/key.pem", key, 0o600)
	check(t, os.Mkdir(filepath.Join(dir, "policy"), 0o700))
	if _, faults := LoadNode(put(t, dir, "egret.yaml", b.text, 0o600), podEnv()); len(faults) > 0 {
		return faults
	}
	return nil
}

func TestBlocks(t *testing.T) {
	got, err := blocks("# A\n```yaml\na: 1\n```\n" + fragment + "\n```yaml\nb: 2\n\nc: 3\n```\n```\nnot: yaml\n```\n  ```yaml\n  d: 4\n  ```\n")
	check(t, err)
	want := []block{{2, "a: 1\n", false}, {6, "b: 2\n\nc: 3\n", true}, {14, "  d: 4\n", false}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(block{})); diff != "" {
		t.Error(diff)
	}
	if _, err := blocks("```yaml\na: 1\n"); err == nil {
		t.Error("a block without end is none")
	}
}

// TestDocumentsCanFail: what is wrong in a block is found.
func TestDocumentsCanFail(t *testing.T) {
	const destination = "apiVersion: egret.dev/v1alpha1\nkind: Destination\nmetadata: {name: github}\nspec: {hosts: [api.github.com]%s}\n"
	const access = "---\napiVersion: egret.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: x}\nspec: {owner: a@b.example, workload: w, destination: github, allow: [{methods: [GET], paths: [/x]}], expires: 2030-12-31}\n"
	for name, tc := range map[string]struct {
		b  block
		ok bool
	}{
		"good":              {block{text: fmt.Sprintf(destination, "")}, true},
		"unknown member":    {block{text: fmt.Sprintf(destination, ", hots: [a]")}, false},
		"even in a part":    {block{text: fmt.Sprintf(destination, ", hots: [a]"), fragment: true}, false},
		"unknown workload":  {block{text: fmt.Sprintf(destination, "") + access}, false},
		"which a part may":  {block{text: fmt.Sprintf(destination, "") + access, fragment: true}, true},
		"settings in parts": {block{text: "audit: {onFull: refuse}\n"}, false},
	} {
		load := settingsBlock
		if tc.b.isPolicy() {
			load = policyBlock
		}
		if err := load(t, tc.b); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
