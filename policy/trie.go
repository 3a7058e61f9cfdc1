// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import "strings"

// node is a trie over the segments of a path. The same trie serves SPIFFE ID patterns
// and path templates. It is built once and then only read.
//
// A path is split at its raw slashes first and each segment is decoded afterwards, so
// that an encoded slash stays inside its segment.
type node[T any] struct {
	children map[string]*node[T] // by decoded segment
	star     *node[T]            // exactly one segment that is not empty
	leaf     *T                  // a template ends here
	rest     *T                  // a template ends here with **
}

// at returns the value of a template, which begins with a slash, and makes it if it
// is new.
func (n *node[T]) at(template string) *T {
	segments := strings.Split(template, "/")[1:]
	for i, s := range segments {
		if s == "**" && i == len(segments)-1 {
			return ensure(&n.rest)
		}
		n = n.step(s)
	}
	return ensure(&n.leaf)
}

func (n *node[T]) step(segment string) *node[T] {
	if segment == "*" {
		return ensure(&n.star)
	}
	if n.children == nil {
		n.children = map[string]*node[T]{}
	}
	key := unescape(segment)
	if n.children[key] == nil {
		n.children[key] = &node[T]{}
	}
	return n.children[key]
}

func ensure[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// walk calls yield with the value of each template that matches, most specific first
// (segment by segment, from the left: literal, *, **), until yield returns true. path
// is without its leading slash. No node is visited twice, so the cost is bounded by
// the templates that share their first segments with the path, and not by the path.
func (n *node[T]) walk(path string, yield func(*T) bool) bool {
	segment, tail, more := strings.Cut(path, "/")
	if c := n.child(segment); c != nil && c.enter(tail, more, yield) {
		return true
	}
	if n.star != nil && segment != "" && n.star.enter(tail, more, yield) {
		return true
	}
	return n.rest != nil && yield(n.rest)
}

func (n *node[T]) enter(tail string, more bool, yield func(*T) bool) bool {
	if more {
		return n.walk(tail, yield)
	}
	return n.leaf != nil && yield(n.leaf)
}

func (n *node[T]) child(segment string) *node[T] {
	if !strings.Contains(segment, "%") {
		return n.children[segment]
	}
	var buf [128]byte // on the stack; longer segments allocate
	return n.children[string(appendUnescaped(buf[:0], segment))]
}
