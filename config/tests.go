// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// Test is one row of a table test of policy (egret policy test).
type Test struct {
	File string `json:"-"`
	Line int    `json:"-"`

	Name    string `json:"name"`
	As      string `json:"as"`           // SPIFFE ID of the caller
	Request string `json:"request"`      // "METHOD https://host/path"
	At      string `json:"at,omitempty"` // RFC 3339; default: now
	// Operations are what the request does, where its body tells.
	Operations []string `json:"operations,omitempty"`
	Evidence   string   `json:"evidence,omitempty"` // default: the first that the Workload accepts
	Want       string   `json:"want"`               // allow, deny or tunnel
	Reason     string   `json:"reason,omitempty"`
	Policy     string   `json:"policy,omitempty"`
}

// testFile is one file of tests.
type testFile struct {
	Tests []Test `json:"tests"`
}

// isTestFile tells tests from policy: files NAME_test.yaml stand beside the policy that
// they are about and are not read as policy.
func isTestFile(name string) bool {
	return strings.HasSuffix(name, "_test.yaml") || strings.HasSuffix(name, "_test.yml")
}

// LoadTests reads the tests in a folder, in any depth, or those of one file.
func LoadTests(root string) ([]Test, Faults) {
	var tests []Test
	var faults Faults
	err := filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !isTestFile(name) && name != root {
			return err
		}
		t, found := loadTestFile(name)
		tests, faults = append(tests, t...), append(faults, found...)
		return nil
	})
	if err != nil {
		faults = append(faults, Fault{File: root, Rule: mustBeReadable(err)})
	}
	return tests, faults.sorted()
}

func loadTestFile(name string) ([]Test, Faults) {
	data, err := readFile(Env{}.complete(), name)
	if err != nil {
		return nil, Faults{{File: name, Rule: mustBeReadable(err)}}
	}
	docs, faults := parse(name, data)
	var out []Test
	for _, doc := range docs {
		var f testFile
		faults = append(faults, decode(doc, &f)...)
		for i := range f.Tests {
			faults = append(faults, f.Tests[i].place(doc, at("tests", i))...)
		}
		out = append(out, f.Tests...)
	}
	return out, faults
}

// place notes where a test stands and checks what it must say.
func (t *Test) place(doc document, path string) (faults Faults) {
	t.File = doc.file
	t.Line, _ = locate(doc.root, path)
	for _, m := range []struct{ key, value string }{{"name", t.Name}, {"as", t.As}, {"request", t.Request}} {
		if m.value == "" {
			faults = append(faults, doc.fault(path+"."+m.key, "", "must be set", ""))
		}
	}
	if wants := []string{"allow", "deny", "tunnel"}; !slices.Contains(wants, t.Want) {
		faults = append(faults, doc.fault(path+".want", t.Want, "must be one of "+strings.Join(wants, ", "), ""))
	}
	return faults
}
