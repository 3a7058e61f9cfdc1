// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
)

// LoadNode reads egret.yaml: strict, with every default filled in as a visible value,
// with relative paths resolved against the file's folder, and checked as far as it can
// be without starting anything. The Node is nil when there are faults. The zero env is
// the machine itself.
func LoadNode(file string, env Env) (*Node, Faults) {
	node, faults := ReadNode(file, env)
	if len(faults) > 0 {
		return nil, faults
	}
	return node, nil
}

// ReadNode is LoadNode for reports: it returns what could be read also where there are
// faults, nil where that is nothing. Nothing may run with such a Node.
func ReadNode(file string, env Env) (*Node, Faults) {
	env = env.complete()
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, Faults{{File: file, Rule: "must have a folder that can be named: " + err.Error()}}
	}
	doc, faults := nodeDocument(file, env)
	if doc == nil {
		return nil, faults.sorted()
	}
	node := Defaults()
	found, undecoded := decodeNoting(*doc, &node)
	c := &checker{doc: *doc, env: env, node: &node, dir: dir, undecoded: undecoded}
	c.checkNode()
	return &node, append(append(faults, found...), c.faults...).sorted()
}

// nodeDocument returns the one document of the file.
func nodeDocument(file string, env Env) (*document, Faults) {
	data, err := readFile(env, file)
	if err != nil {
		return nil, Faults{{File: file, Rule: mustBeReadable(err), Hint: "name it with -c"}}
	}
	docs, faults := parse(file, data)
	switch {
	case len(docs) == 0 && len(faults) == 0:
		return nil, Faults{{File: file, Rule: "must hold the settings of a node, it is empty"}}
	case len(docs) == 0:
		return nil, faults
	case len(docs) > 1:
		second := docs[1].root
		faults = append(faults, Fault{File: file, Line: second.Line, Column: second.Column,
			Rule: "must be the only document of the file", Hint: "remove the line ---"})
	}
	if isGoverned(docs[0]) {
		return nil, append(faults, docs[0].fault("kind", "", "is a policy document, not the settings of a node",
			"name its file under policy.paths"))
	}
	return &docs[0], faults
}

// isGoverned recognises a policy document given as settings, which would otherwise
// yield a page of unknown keys.
func isGoverned(d document) bool {
	return header(d).Kind != "" && header(d).APIVersion != ""
}

// checker holds the settings against everything that must be true of them.
type checker struct {
	doc       document
	env       Env
	node      *Node
	dir       string // absolute folder of the file
	undecoded unread // what was not understood
	faults    Faults
}

func (c *checker) bad(path, value, rule, hint string) {
	if c.undecoded.covers(path) {
		return
	}
	c.faults = append(c.faults, c.doc.fault(path, value, rule, hint))
}

// enclosing cuts the last segment off a path.
func enclosing(p string) string { return p[:max(0, strings.LastIndexAny(p, ".["))] }

// written reports whether the file itself says something at this path.
func (c *checker) written(path string) bool { return c.doc.has(path) }

func (c *checker) checkNode() {
	c.nodeName()
	c.bounds()
	c.words()
	c.listeners()
	c.spiffe()
	c.attestors()
	c.admin()
	c.metrics()
	c.certs()
	c.policyPaths()
	c.egress()
	c.upstream()
	c.audit()
	c.programs()
}

func (c *checker) nodeName() {
	if c.node.Node == "" {
		c.node.Node, _ = c.env.Hostname()
	}
	if c.node.Node == "" || !printable(c.node.Node) || len(c.node.Node) > maxKey {
		c.bad("node", c.node.Node, "must be a printable name of at most 253 bytes", "")
	}
}

// bounds checks every number by the table, and the few that depend on another.
func (c *checker) bounds() {
	table := boundsByKey()
	walk(reflect.ValueOf(c.node).Elem(), func(pattern, path string, v reflect.Value) {
		if b, ok := table[pattern]; ok && !b.allows(v.Int()) {
			c.bad(path, inUnit(v.Type(), v.Int()), b.rule(v.Type()), "default: "+inUnit(v.Type(), b.Default))
		}
	})
	c.notMore("limits.connectionsPerWorkload", &c.node.Limits.ConnectionsPerWorkload, "limits.connections", c.node.Limits.Connections)
	c.notMore("limits.idleUpstreamPerKey", &c.node.Limits.IdleUpstreamPerKey, "limits.idleUpstream", c.node.Limits.IdleUpstream)
}

// notMore refuses a written value above another limit, where it would be ignored; a
// default follows the other down.
func (c *checker) notMore(path string, value *int, other string, limit int) {
	switch {
	case *value <= limit || limit < 1:
	case c.written(path):
		c.bad(path, fmt.Sprint(*value), fmt.Sprintf("must not be more than %s, which is %d", other, limit), "")
	default:
		*value = limit
	}
}

// words checks every setting that takes one of a few words.
func (c *checker) words() {
	table := enumerations()
	walk(reflect.ValueOf(c.node).Elem(), func(pattern, path string, v reflect.Value) {
		words, ok := table[pattern]
		if !ok || v.String() == "" && !c.written(path) && !required(pattern) {
			return
		}
		c.word(path, v.String(), words)
	})
}

// required are the words that have no default.
func required(pattern string) bool {
	return pattern == "listeners[].kind" || pattern == "listeners[].identify.process.attestor"
}

func (c *checker) word(path, value string, words []string) {
	for _, w := range words {
		if w == value {
			return
		}
	}
	hint := ""
	if best := nearest(value, words); best != "" {
		hint = fmt.Sprintf("did you mean %q?", best)
	}
	c.bad(path, value, oneOf(words), hint)
}
