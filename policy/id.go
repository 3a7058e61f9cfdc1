// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// IDPattern names SPIFFE IDs: one exactly, or several by whole path segments that are
// replaced by *, or, where ParseIDScope was asked, all below a path by a trailing /**.
// The trust domain is always literal. The zero IDPattern matches nothing.
type IDPattern struct {
	text     string
	domain   string
	segments []string
	rest     bool
}

// ParseIDPattern reads an exact SPIFFE ID or one with segments replaced by *.
func ParseIDPattern(s string) (IDPattern, error) {
	p, err := ParseIDScope(s)
	if err == nil && p.rest {
		return IDPattern{}, fmt.Errorf("SPIFFE ID pattern %q must not end with /**: name the segments", clip(s))
	}
	return p, err
}

// ParseIDScope is ParseIDPattern that also takes a trailing /** for one segment or more.
func ParseIDScope(s string) (IDPattern, error) {
	body, rest := strings.CutSuffix(s, "/**")
	parts := strings.Split(body, "/") // "spiffe:", "", trust domain, segments
	segments := parts[min(3, len(parts)):]
	id, err := spiffeid.FromString(sampleID(parts))
	if err == nil && id.Path() == "" && !rest {
		err = errors.New("has no path")
	}
	if err != nil {
		return IDPattern{}, fmt.Errorf("SPIFFE ID pattern %q: %w: must be spiffe://trust-domain/path, with * only for a whole segment of the path", clip(s), err)
	}
	return IDPattern{text: s, domain: id.TrustDomain().Name(), segments: segments, rest: rest}, nil
}

// sampleID puts a letter in the place of each wildcard of the path.
func sampleID(parts []string) string {
	sample := slices.Clone(parts)
	for i := 3; i < len(sample); i++ {
		if sample[i] == "*" {
			sample[i] = "x"
		}
	}
	return strings.Join(sample, "/")
}

// String returns the pattern as it was written.
func (p IDPattern) String() string { return p.text }

// Exact reports whether the pattern names one ID only.
func (p IDPattern) Exact() bool {
	return p.domain != "" && !strings.Contains(p.text, "*")
}

// Matches reports whether the pattern names the ID.
func (p IDPattern) Matches(id spiffeid.ID) bool {
	q, err := ParseIDPattern(id.String())
	return err == nil && p.Covers(q)
}

// Covers reports whether every ID that q names is also named by p.
func (p IDPattern) Covers(q IDPattern) bool {
	if p.domain == "" || p.domain != q.domain || len(p.segments) > len(q.segments) {
		return false
	}
	for i, s := range p.segments {
		if s != "*" && s != q.segments[i] {
			return false
		}
	}
	longer := len(q.segments) > len(p.segments)
	if p.rest {
		return longer || q.rest
	}
	return !longer && !q.rest
}

// Overlaps reports whether some ID is named by both patterns.
func (p IDPattern) Overlaps(q IDPattern) bool {
	if p.domain == "" || p.domain != q.domain {
		return false
	}
	if len(p.segments) > len(q.segments) {
		p, q = q, p
	}
	for i, s := range p.segments {
		if o := q.segments[i]; s != o && s != "*" && o != "*" {
			return false
		}
	}
	if len(p.segments) == len(q.segments) {
		return p.rest == q.rest
	}
	return p.rest
}

// OverlappingIDs returns, for each pattern that overlaps an earlier one, the indices of
// the two (the earlier first). Its cost grows with the number of patterns and not with
// its square, unless most of them begin with *. Patterns with /** are not looked at.
func OverlappingIDs(patterns []IDPattern) [][2]int {
	domains := map[string]*node[int]{}
	var out [][2]int
	for i, p := range patterns {
		if p.domain == "" || p.rest {
			continue
		}
		root := domains[p.domain]
		if root == nil {
			root = &node[int]{}
			domains[p.domain] = root
		}
		if earlier := root.overlapping(p.segments); earlier != nil {
			out = append(out, [2]int{*earlier, i})
			continue
		}
		*root.at("/" + strings.Join(p.segments, "/")) = i
	}
	return out
}

// overlapping returns the value of a template that shares a path with segments, or nil.
func (n *node[T]) overlapping(segments []string) *T {
	switch {
	case n == nil:
		return nil
	case len(segments) == 0:
		return n.leaf
	}
	if found := n.star.overlapping(segments[1:]); found != nil {
		return found
	}
	if segments[0] != "*" {
		return n.children[segments[0]].overlapping(segments[1:])
	}
	for _, key := range slices.Sorted(maps.Keys(n.children)) {
		if found := n.children[key].overlapping(segments[1:]); found != nil {
			return found
		}
	}
	return nil
}
