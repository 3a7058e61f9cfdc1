// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration. Line and Column count from
// 1 and are zero where the fault has no place in a file.
//
// A Fault made by this package never holds a value that may be a secret: what stands
// where a secret's location is expected may be a secret that somebody pasted there.
type Fault struct {
	File   string
	Line   int
	Column int
	Path   string // where in the document: spec.allow[0].paths[1]
	Value  string // what is there; empty when it is missing or tells nothing
	Rule   string // what must hold
	Hint   string // what to do next; may be empty
}

// maxValue is how many bytes of a value are printed.
const maxValue = 80

// Error returns one line: file:line:column: path: "value": rule (hint).
func (f Fault) Error() string {
	var b strings.Builder
	b.WriteString(f.place())
	if f.Path != "" {
		fmt.Fprintf(&b, "%s: ", f.Path)
	}
	if f.Value != "" {
		fmt.Fprintf(&b, "%s: ", quote(f.Value))
	}
	b.WriteString(f.Rule)
	if f.Hint != "" {
		fmt.Fprintf(&b, " (%s)", f.Hint)
	}
	return b.String()
}

// String is Error.
func (f Fault) String() string { return f.Error() }

func (f Fault) place() string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File + ": "
	}
	return fmt.Sprintf("%s:%d:%d: ", f.File, f.Line, f.Column)
}

// quote prints at most maxValue bytes of s, with everything escaped that a terminal
// could act on (MUST A2).
func quote(s string) string {
	if len(s) <= maxValue {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:maxValue], ""))
}

// Faults is everything that is wrong, sorted by file, line and column. A nil Faults
// means that nothing is; compare with len, since a Faults in an error interface is
// not nil.
type Faults []Fault

// Error returns one line per fault.
func (fs Faults) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Err returns the faults as an error, nil when there are none.
func (fs Faults) Err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs
}

// sorted takes tokens out, sorts in place, drops repetitions and returns the result.
func (fs Faults) sorted() Faults {
	for i := range fs {
		fs[i] = fs[i].withoutTokens()
	}
	slices.SortStableFunc(fs, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Rule, b.Rule))
	})
	return slices.Compact(fs)
}
