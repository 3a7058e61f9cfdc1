// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// SECURITY.md promises a test for every rule that it does not say otherwise of, and
// leaves out no rule that has tests.
func TestEveryRuleHasItsTests(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	promised := promisedRules(string(text))
	tested := testedRules(readTree(t, "../.."))
	if len(tested) < 40 {
		t.Fatalf("only %d rules have tests: is this the root of the tree?", len(tested))
	}
	for rule, promise := range promised {
		if promise && !tested[rule] {
			t.Errorf("SECURITY.md: no test is named TestMUST_%s_…: write one, or say that there is none", rule)
		}
	}
	for rule := range tested {
		if _, ok := promised[rule]; !ok {
			t.Errorf("SECURITY.md does not list rule %s, which has tests", rule)
		}
	}
}

func TestRulesAreRead(t *testing.T) {
	t.Parallel()
	got := promisedRules("| **X** | **Things** |\n| X1 | holds |\n| X2 | holds — *no test by this number yet* |\n| X3 | *not built* |\n")
	if len(got) != 3 || !got["X1"] || got["X2"] || got["X3"] {
		t.Errorf("promisedRules() = %v", got)
	}
	tree := []file{
		{test: true, text: "func TestMUST_X1_Holds(t *testing.T) {}\nfunc TestMUST_X4_X5_Both(t *testing.T) {}"},
		{text: "func TestMUST_X6_IsNoTestFile(t *testing.T) {}"},
	}
	tests := testedRules(tree)
	if len(tests) != 3 || !tests["X1"] || !tests["X4"] || !tests["X5"] {
		t.Errorf("testedRules() = %v", tests)
	}
}

// promisedRules are the rows of the table: true where tests are promised.
func promisedRules(text string) map[string]bool {
	out := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([A-Z][0-9]+) \| (.*) \|$`).FindAllStringSubmatch(text, -1) {
		out[m[1]] = !strings.Contains(m[2], "*no test by this number yet") && !strings.Contains(m[2], "*not built")
	}
	return out
}

func testedRules(tree []file) map[string]bool {
	out := map[string]bool{}
	name := regexp.MustCompile(`(?m)^func TestMUST((?:_[A-Z][0-9]+)+)_`)
	for _, f := range tree {
		if !f.test {
			continue
		}
		for _, m := range name.FindAllStringSubmatch(f.text, -1) {
			for rule := range strings.SplitSeq(strings.TrimPrefix(m[1], "_"), "_") {
				out[rule] = true
			}
		}
	}
	return out
}
