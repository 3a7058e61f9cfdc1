// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// path is a place in a document, linked to its parent so that it is only turned into
// text where there is a fault. A nil *path is the document itself.
type path struct {
	parent *path
	key    string // "" for an element of a list
	index  int
}

func (p *path) child(key string) *path { return &path{parent: p, key: key} }

func (p *path) at(index int) *path { return &path{parent: p, index: index} }

// String returns the form that people read: spec.allow[0].paths[1].
func (p *path) String() string {
	if p == nil {
		return ""
	}
	head := p.parent.String()
	switch {
	case p.key == "":
		return head + "[" + strconv.Itoa(p.index) + "]"
	case head == "":
		return p.key
	}
	return head + "." + p.key
}

// locate finds the node that stands for a path, or for the nearest part of it that
// exists: the place to show for a member that is missing. A block list or mapping is
// shown at its key, everything else where it stands.
func locate(root *yaml.Node, p string) (line, column int) {
	node, shownAt := root, root
	for p != "" && node != nil {
		var key *yaml.Node
		key, node, p = step(node, p)
		if node == nil {
			break
		}
		shownAt = node
		if key != nil && node.Kind != yaml.ScalarNode {
			shownAt = key
		}
	}
	return shownAt.Line, shownAt.Column
}

// step goes one segment down. Keys may hold dots (members of a JSON answer do), so
// the key is looked for in the rest of the path, not cut out of it.
func step(n *yaml.Node, p string) (key, value *yaml.Node, rest string) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			if rest, ok := cutSegment(p, n.Content[i].Value); ok {
				return n.Content[i], n.Content[i+1], rest
			}
		}
	case yaml.SequenceNode:
		index, rest, ok := cutIndex(p)
		if ok && index < len(n.Content) {
			return nil, n.Content[index], rest
		}
	}
	return nil, nil, p
}

func cutSegment(p, key string) (rest string, ok bool) {
	rest, ok = strings.CutPrefix(p, key)
	if !ok || key == "" {
		return p, false
	}
	switch {
	case rest == "" || rest[0] == '[':
		return rest, true
	case rest[0] == '.':
		return rest[1:], true
	}
	return p, false
}

func cutIndex(p string) (index int, rest string, ok bool) {
	inner, rest, ok := strings.Cut(strings.TrimPrefix(p, "["), "]")
	index, err := strconv.Atoi(inner)
	if !ok || err != nil || index < 0 || p[0] != '[' {
		return 0, p, false
	}
	return index, strings.TrimPrefix(rest, "."), true
}

// has reports whether the document holds something at exactly this path.
func (d document) has(p string) bool {
	node := d.root
	for p != "" {
		if _, node, p = step(node, p); node == nil {
			return false
		}
	}
	return true
}

// at names an element of a list.
func at(list string, i int) string { return list + "[" + strconv.Itoa(i) + "]" }
