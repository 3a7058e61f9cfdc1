// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import "strings"

// segment is one part of a path template in its decoded form. The trie decides; this
// form is for questions that may take their time (Overlap, Explain).
type segment struct {
	kind segmentKind
	text string // of a literal, decoded
}

type segmentKind int

const (
	literal segmentKind = iota
	oneSegment
	restSegments
)

func templateSegments(template string) []segment {
	parts := strings.Split(strings.TrimPrefix(template, "/"), "/")
	out := make([]segment, len(parts))
	for i, s := range parts {
		switch {
		case s == "**" && i == len(parts)-1:
			out[i].kind = restSegments
		case s == "*":
			out[i].kind = oneSegment
		default:
			out[i].text = unescape(s)
		}
	}
	return out
}

// meets reports whether some segment is named by both; neither is the rest.
func (s segment) meets(o segment) bool {
	switch {
	case s.kind == oneSegment:
		return o.kind == oneSegment || o.text != ""
	case o.kind == oneSegment:
		return s.text != ""
	}
	return s.text == o.text
}

func (s segment) String() string {
	switch s.kind {
	case oneSegment:
		return "*"
	case restSegments:
		return "**"
	}
	return s.text
}

// firstMiss returns the index of the first segment in which a raw path leaves the
// template, or -1 where the path matches.
func firstMiss(template []segment, path []string) int {
	for i, t := range template {
		switch {
		case t.kind == restSegments && i < len(path):
			return -1
		case i >= len(path), !t.meets(segment{text: unescape(path[i])}):
			return i
		}
	}
	if len(path) > len(template) {
		return len(template)
	}
	return -1
}
