// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"go/version"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The Go that egret is built with must be one in which the standard library's known
// flaws are mended (SECURITY.md), and no GODEBUG may bring old behaviour back.
func TestMUST_P4_ToolchainHasTheFixes(t *testing.T) {
	t.Parallel()
	const oldest = "go1.26.6"
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^go (\S+)$`).FindSubmatch(mod)
	if m == nil || version.Compare("go"+string(m[1]), oldest) < 0 {
		t.Errorf("go.mod asks for %q, must be %s or later", m, oldest)
	}
	for _, line := range godebugs(string(mod)) {
		t.Errorf("go.mod sets %q", line)
	}
	for _, f := range readTree(t, "../..") {
		for _, line := range godebugs(f.text) {
			if !strings.Contains(line, "fips140") {
				t.Errorf("%s sets %q", f.name, line)
			}
		}
	}
}

// godebugs finds what changes the standard library's behaviour: //go:debug directives
// and go.mod's godebug lines.
func godebugs(text string) []string {
	return regexp.MustCompile(`(?m)^(//go:debug .*|godebug .*)$`).FindAllString(text, -1)
}

func TestGodebugsAreFound(t *testing.T) {
	t.Parallel()
	text := "package main\n" + "//go:debug " + "http2server=0\n" + "godebug default=go1.20\n"
	if got := godebugs(text); len(got) != 2 {
		t.Errorf("found %q", got)
	}
}
