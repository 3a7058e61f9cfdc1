// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package minting knows the calls that hand out a fresh secret. On a route with a
// credential they are refused unless an AccessPolicy names them (MUST H11): an application
// that may make one holds a real credential afterwards.
//
// The list is built in and versioned. It cannot be complete; it holds what is known of
// the destinations that egret documents. It errs on the side of refusing: paths are
// compared in the most lenient reading, whatever their spelling.
package minting

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed builtin.txt
var builtin string

// Entry is one line of the list. Immutable.
type Entry struct {
	ID         string
	Why        string // where it is known from
	host       string
	methods    []string // nil: all
	path       []string // segments of the template, lower case
	key        string   // the last literal segment, "" where there is none
	operations []string // lower case
}

// List is a parsed list. Immutable.
type List struct {
	version string
	entries []*Entry
}

// Builtin returns the list that is built in.
func Builtin() *List {
	l, err := parse(builtin)
	if err != nil {
		panic("minting: the built-in list: " + err.Error()) // a test reads it
	}
	return l
}

// Version dates the list.
func (l *List) Version() string { return l.version }

// IDs returns what a policy may name, sorted.
func (l *List) IDs() []string {
	var out []string
	for _, e := range l.entries {
		out = append(out, e.ID)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Knows reports whether an entry has this id.
func (l *List) Knows(id string) bool {
	return slices.ContainsFunc(l.entries, func(e *Entry) bool { return e.ID == id })
}

func parse(text string) (*List, error) {
	l := &List{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "# version "); ok {
			l.version = v
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		e, err := parseEntry(line)
		if err != nil {
			return nil, err
		}
		l.entries = append(l.entries, e)
	}
	if l.version == "" || len(l.entries) == 0 {
		return nil, fmt.Errorf("the list must have a version and entries")
	}
	return l, nil
}

func parseEntry(line string) (*Entry, error) {
	f := strings.Fields(line)
	if len(f) < 5 {
		return nil, fmt.Errorf("line %q must have id, host, methods, path or operations, and a source", line)
	}
	e := &Entry{ID: f[0], host: f[1], Why: strings.Join(f[4:], " ")}
	if f[2] != "*" {
		e.methods = strings.Split(f[2], ",")
	}
	switch host := f[1]; {
	case host != "*" && !strings.HasPrefix(host, ".") && !strings.HasPrefix(host, awsHost):
		return nil, fmt.Errorf("host %q must be *, .name or aws:endpoint", host)
	case !strings.HasPrefix(f[3], "/"):
		if !strings.HasPrefix(host, awsHost) {
			return nil, fmt.Errorf("operations %q need a host of aws", f[3])
		}
		e.operations = strings.Split(strings.ToLower(f[3]), ",")
	case f[3] != strings.ToLower(f[3]):
		return nil, fmt.Errorf("path %q must be in lower case", f[3])
	default:
		e.path = strings.Split(f[3][1:], "/")
		e.key = lastLiteral(e.path)
	}
	return e, nil
}

// lastLiteral is what a path is found by: names of calls stand at the end.
func lastLiteral(segments []string) (key string) {
	for _, s := range segments {
		if !strings.Contains(s, "*") {
			key = s
		}
	}
	return key
}
