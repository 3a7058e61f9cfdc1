// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"

	"gopkg.in/yaml.v3"
)

// Bounds of what is read. They keep hostile files from costing more than a moment.
const (
	maxFileBytes = 4 << 20
	maxDocuments = 10_000
	maxDepth     = 32
	maxKey       = 253 // bytes of one key; the longest real one is a host name
	maxFaults    = 500 // per file; who has more has one big fault
)

// document is one YAML document: a mapping at the top. It is broken where it has
// failed the structural checks (no aliases, no tags, no repeated keys): it is decoded
// all the same, to report its other faults in the same run, and then not used.
type document struct {
	file   string
	root   *yaml.Node
	broken bool
}

// fault makes a Fault at a path of the document.
func (d document) fault(p, value, rule, hint string) Fault {
	line, column := locate(d.root, p)
	return Fault{File: d.file, Line: line, Column: column, Path: p, Value: shown(p, value), Rule: rule, Hint: hint}
}

// parse splits data into its documents and checks their structure. Empty documents
// are skipped.
func parse(file string, data []byte) ([]document, Faults) {
	if len(data) > maxFileBytes {
		return nil, Faults{{File: file, Rule: fmt.Sprintf("must be at most %v", Size(maxFileBytes)), Hint: "split the file"}}
	}
	var docs []document
	var faults Faults
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for n := 1; len(faults) < maxFaults; n++ {
		root, err := nextDocument(dec)
		switch {
		case errors.Is(err, io.EOF):
			return docs, faults
		case err != nil: // the parser cannot go on after this
			return docs, append(faults, syntaxFault(file, err))
		case n > maxDocuments:
			return docs, append(faults, Fault{File: file, Line: root.Line, Column: root.Column,
				Rule: fmt.Sprintf("must hold at most %d documents", maxDocuments), Hint: "split the file"})
		case isNull(root):
			continue
		}
		found := checkStructure(file, root)
		if root.Kind == yaml.MappingNode {
			docs = append(docs, document{file: file, root: root, broken: len(found) > 0})
		}
		faults = append(faults, found...)
	}
	return docs, faults
}

// nextDocument returns the content of the next document. The parser is someone
// else's and the file may be hostile: a panic in it is an error of this file, not the
// end of a process that serves others.
func nextDocument(dec *yaml.Decoder) (root *yaml.Node, err error) {
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, errors.New("yaml: the parser gave up on this file")
		}
	}()
	var n yaml.Node
	if err := dec.Decode(&n); err != nil {
		return nil, err
	}
	if n.Kind != yaml.DocumentNode || len(n.Content) != 1 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Line: n.Line, Column: n.Column}, nil
	}
	return n.Content[0], nil
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?((?s).*)$`)

func syntaxFault(file string, err error) Fault {
	f := Fault{File: file, Rule: "must be YAML: " + err.Error()}
	if m := yamlError.FindStringSubmatch(err.Error()); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		f.Rule = "must be YAML: " + m[2]
	}
	if f.Line > 0 {
		f.Column = 1
	}
	return f
}

// structure collects what may not be in any document, whatever it means.
type structure struct {
	file   string
	faults Faults
}

func checkStructure(file string, root *yaml.Node) Faults {
	s := &structure{file: file}
	if root.Kind != yaml.MappingNode {
		s.bad(root, nil, "must be a mapping of keys to values", "")
	}
	s.check(root, nil, 1)
	return s.faults
}

func (s *structure) bad(n *yaml.Node, p *path, rule, hint string) {
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, Fault{File: s.file, Line: n.Line, Column: n.Column, Path: p.String(), Rule: rule, Hint: hint})
	}
}

func (s *structure) check(n *yaml.Node, p *path, depth int) {
	switch {
	case depth > maxDepth:
		s.bad(n, p, fmt.Sprintf("must be nested at most %d deep", maxDepth), "")
		return
	case n.Kind == yaml.AliasNode:
		s.bad(n, p, "must not be an alias", "write the value out: aliases let a small file grow without bound")
		return
	case n.Anchor != "":
		s.bad(n, p, "must not have an anchor", "write the value out where it is needed")
	}
	if n.Style&yaml.TaggedStyle != 0 {
		s.bad(n, p, "must not have a tag", "remove the word that begins with an exclamation mark")
	}
	switch n.Kind {
	case yaml.MappingNode:
		s.checkMapping(n, p, depth)
	case yaml.SequenceNode:
		for i, item := range n.Content {
			s.check(item, p.at(i), depth+1)
		}
	}
}

func (s *structure) checkMapping(n *yaml.Node, p *path, depth int) {
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !s.checkKey(key, p) {
			continue
		}
		if line, seen := first[key.Value]; seen {
			s.bad(key, s.named(p, key), fmt.Sprintf("must stand here only once, it is also in line %d", line), "")
			continue
		}
		first[key.Value] = key.Line
		s.check(value, p.child(key.Value), depth+1)
	}
}

// named is the path of a member, unless its name may be a secret by itself.
func (s *structure) named(p *path, key *yaml.Node) *path {
	if hidden(p.String()) {
		return p
	}
	return p.child(key.Value)
}

// plainKey reports whether checkKey has nothing against a key.
func plainKey(key *yaml.Node) bool {
	return (&structure{}).checkKey(key, nil)
}

func (s *structure) checkKey(key *yaml.Node, p *path) bool {
	switch {
	case key.Kind != yaml.ScalarNode || key.Value == "":
		s.bad(key, p, "must have plain names as keys", "")
	case key.Tag == "!!merge" || key.Value == "<<":
		s.bad(key, p, "must not use a merge key", "write the members out")
	case key.Style&yaml.TaggedStyle != 0 || key.Anchor != "":
		s.bad(key, p, "must not have a key with an anchor or a tag", "")
	case len(key.Value) > maxKey:
		s.bad(key, p, fmt.Sprintf("must not have a key longer than %d bytes", maxKey), "")
	default:
		return true
	}
	return false
}
