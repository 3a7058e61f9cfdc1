// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

//go:build integration && linux

package integration

import (
	"flag"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
)

const document = "../docs/clients.md"

// checkDocument compares docs/clients.md with what has just worked, so that it cannot
// say what is not so; with -update it writes it.
func checkDocument(t *testing.T, worked []client) {
	t.Helper()
	want := markdown(worked)
	if f := flag.Lookup(updateName); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(document)
	if err != nil || string(got) != want {
		t.Errorf("docs/clients.md does not say what works (%v): run integration/run -update", err)
	}
}

func markdown(worked []client) string {
	var b strings.Builder
	text, err := os.ReadFile("testdata/clients.md")
	if err != nil {
		return err.Error()
	}
	head, tail, _ := strings.Cut(string(text), "TABLE\n")
	b.WriteString(head)
	b.WriteString("| client | led and trusting by | to the SaaS | sees of a refusal | |\n|---|---|---|---|---|\n")
	for _, c := range worked {
		b.WriteString("| " + strings.Join([]string{c.name, "`" + strings.Join(c.needs, "`, `") + "`", c.proto, strings.Join(c.seen, ", "), c.remark}, " | ") + " |\n")
	}
	b.WriteString(tail)
	return b.String()
}

// plainTable is the same for a terminal.
func plainTable(worked []client) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	_, _ = w.Write([]byte("CLIENT\tINJECTED\tREFUSED\tWITHOUT TRUST\tBY\n"))
	for _, c := range worked {
		_, _ = w.Write([]byte(strings.Join([]string{c.name, c.proto, strings.Join(c.seen, " + "), "refuses egret", strings.Join(c.needs, " ")}, "\t") + "\n"))
	}
	_ = w.Flush()
	return b.String()
}
