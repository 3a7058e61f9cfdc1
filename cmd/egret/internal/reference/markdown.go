// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// markdown collects a page.
type markdown struct{ b bytes.Buffer }

// bytes is the page, ending with one newline.
func (m *markdown) bytes() []byte {
	return append(bytes.TrimRight(m.b.Bytes(), "\n"), '\n')
}

// title starts the page and says what it was made from.
func (m *markdown) title(text, from string) {
	m.para("# " + text)
	m.para("<!-- Generated from " + from + " by `make docs`. Do not edit. -->")
}

func (m *markdown) heading(text string) { m.para("## " + text) }

// para writes Markdown as it is.
func (m *markdown) para(text string) { fmt.Fprintf(&m.b, "%s\n\n", text) }

// code writes a block of plain text.
func (m *markdown) code(text string) {
	m.para("```text\n" + strings.Trim(text, "\n") + "\n```")
}

// table writes rows of Markdown cells. Columns that are empty in every row are left out.
func (m *markdown) table(head []string, rows [][]string) {
	used := make([]bool, len(head))
	for _, row := range rows {
		for i, cell := range row {
			used[i] = used[i] || cell != ""
		}
	}
	m.row(head, used)
	m.row(slices.Repeat([]string{"---"}, len(head)), used)
	for _, row := range rows {
		m.row(row, used)
	}
	m.b.WriteByte('\n')
}

func (m *markdown) row(cells []string, used []bool) {
	m.b.WriteByte('|')
	for i, cell := range cells {
		if used[i] {
			fmt.Fprintf(&m.b, " %s |", strings.ReplaceAll(cell, "|", `\|`))
		}
	}
	m.b.WriteByte('\n')
}

// mono sets a word of the program in code type; empty stays empty.
func mono(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// prose sets text of the source, which is trusted, so that it is read as it is written:
// patterns hold asterisks.
func prose(s string) string {
	return strings.NewReplacer(`*`, `\*`, `_`, `\_`, `<`, `&lt;`, `[`, `\[`).Replace(s)
}

// oneLine joins the lines of a doc comment.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// sentence is oneLine with a capital; not for fields, which may begin with a literal.
func sentence(s string) string {
	s = oneLine(s)
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
