// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package minting

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/egret-proxy/egret/policy/operation"
)

const awsHost = "aws:"

// Guard is the part of a list that may concern the hosts of one destination. Immutable
// and safe for concurrent use; nil concerns nothing.
type Guard struct {
	byKey  map[string][]*Entry // entries with a path, by their last literal segment
	starts [maxKey][256]bool   // whether a key has this length and this first byte, in either case
	loose  []*Entry            // those without a literal segment
	calls  []*Entry            // entries with operations
}

// maxKey is more bytes than a key has.
const maxKey = 40

// Call is what a guard looks at.
type Call struct {
	Host       string // canonical
	Method     string
	Path       string // raw, still encoded
	Operations []string
	Read       bool     // Operations is what the extractor aws said; empty: it had no result
	Allowed    []string // ids that the policy names
}

// Finding is a guard's answer. The zero Finding refuses nothing.
type Finding struct {
	Entry  *Entry // the call that is refused, nil for none
	Unread bool   // the answer hangs on what the request does: ask again with Read
}

// At returns the guard of a destination with these hosts, "*.example.com" for exactly one
// label.
func (l *List) At(hosts []string) *Guard {
	g := &Guard{byKey: map[string][]*Entry{}}
	for _, e := range l.entries {
		switch {
		case !slices.ContainsFunc(hosts, e.mayConcern):
		case e.operations != nil:
			g.calls = append(g.calls, e)
		case e.key == "":
			g.loose = append(g.loose, e)
		default:
			g.byKey[e.key] = append(g.byKey[e.key], e)
			for _, c := range []byte{e.key[0], upper(e.key[0])} {
				g.starts[len(e.key)][c] = true
			}
		}
	}
	return g
}

// NeedsOperations reports whether what some of the hosts' calls are stands neither in
// method nor path.
func (g *Guard) NeedsOperations() bool { return g != nil && len(g.calls) > 0 }

// mayConcern reports whether some host of a pattern is meant.
func (e *Entry) mayConcern(pattern string) bool {
	parent, wild := strings.CutPrefix(pattern, "*.")
	if !wild {
		return e.concerns(pattern)
	}
	if strings.HasPrefix(e.host, awsHost) {
		return operation.AWSHost("x." + parent)
	}
	return e.concerns(parent) || e.concerns("x."+parent) || strings.HasSuffix(e.host, "."+parent)
}

// concerns reports whether a host is meant.
func (e *Entry) concerns(host string) bool {
	if e.host == "*" {
		return true
	}
	if name, ok := strings.CutPrefix(e.host, awsHost); ok {
		endpoint := operation.AWSEndpoint(host)
		return endpoint == name || strings.HasSuffix(endpoint, "."+name)
	}
	return strings.HasSuffix(host, e.host) || host == e.host[1:]
}

// Check says whether a call is refused.
func (g *Guard) Check(c Call) Finding {
	if g == nil {
		return Finding{}
	}
	for _, e := range g.calls {
		switch {
		case slices.Contains(c.Allowed, e.ID) || !e.concerns(c.Host):
		case !c.Read:
			return Finding{Unread: true}
		case len(c.Operations) == 0 || slices.ContainsFunc(c.Operations, e.names):
			return Finding{Entry: e}
		}
	}
	return Finding{Entry: g.path(&c)}
}

// names reports whether an operation is one of the entry's.
func (e *Entry) names(op string) bool {
	return slices.ContainsFunc(e.operations, func(want string) bool { return glob(want, op) })
}

// path returns the entry whose path the call's path is in one of its readings: as it is
// split by its slashes and decoded then, and as it is once all of it is decoded; both also
// with what stands before an encoded end only.
func (g *Guard) path(c *Call) *Entry {
	if plain(c.Path) {
		if len(g.loose) == 0 && !g.mayMatch(c.Path) {
			return nil
		}
		var buf [32]string // on the stack
		return g.reading(c, appendSegments(buf[:0], c.Path))
	}
	whole := decode(c.Path)
	if e := cmp.Or(g.reading(c, split(c.Path, decode)), g.reading(c, appendSegments(nil, whole))); e != nil {
		return e
	}
	if ended(whole) == whole {
		return nil
	}
	first := func(s string) string { return ended(decode(s)) }
	return cmp.Or(g.reading(c, split(c.Path, first)), g.reading(c, appendSegments(nil, ended(whole))))
}

// plain reports a path of ASCII without escapes.
func plain(path string) bool {
	for i := range len(path) {
		if path[i] == '%' || path[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// split returns the segments of a path, each read in a way.
func split(path string, read func(string) string) (out []string) {
	for s := range strings.SplitSeq(path, "/") {
		out = appendSegment(out, read(s))
	}
	return out
}

// mayMatch reports whether some segment of a path without escapes is a key, or becomes one
// without what stands behind it. It is all that most requests cost.
func (g *Guard) mayMatch(path string) bool {
	for path != "" {
		s, rest, _ := strings.Cut(path, "/")
		if path = rest; s == "" {
			continue
		}
		if last := s[len(s)-1]; last == '.' || last == ' ' || strings.IndexByte(s, ';') >= 0 || len(g.keyed(s)) > 0 {
			return true
		}
		if dot := strings.LastIndexByte(s, '.'); dot > 0 && len(g.keyed(s[:dot])) > 0 {
			return true
		}
	}
	return false
}

func (g *Guard) reading(c *Call, segments []string) *Entry {
	var tried map[*Entry]bool // of a long path, in which a segment may stand often
	if len(segments) > manySegments {
		tried = map[*Entry]bool{}
	}
	for i, s := range segments {
		list := g.keyed(s)
		if dot := strings.LastIndexByte(s, '.'); dot > 0 && i == len(segments)-1 {
			list = slices.Concat(list, g.keyed(s[:dot]))
		}
		if len(list) == 0 || tried[list[0]] {
			continue
		}
		if tried != nil {
			tried[list[0]] = true
		}
		if e := first(list, c, segments); e != nil {
			return e
		}
	}
	return first(g.loose, c, segments)
}

const manySegments = 32

// keyed returns the entries whose key is a segment, in whatever case.
func (g *Guard) keyed(s string) []*Entry {
	if s == "" || len(s) >= maxKey || !g.starts[len(s)][s[0]] {
		return nil
	}
	var buf [maxKey]byte
	low := buf[:len(s)]
	for i := range len(s) {
		low[i] = lower(s[i])
	}
	return g.byKey[string(low)]
}

func first(list []*Entry, c *Call, segments []string) *Entry {
	for _, e := range list {
		if e.hasMethod(c.Method) && match(e.path, segments) && !slices.Contains(c.Allowed, e.ID) && e.concerns(c.Host) {
			return e
		}
	}
	return nil
}

// hasMethod folds case, since some servers do.
func (e *Entry) hasMethod(method string) bool {
	return e.methods == nil || slices.ContainsFunc(e.methods, func(m string) bool { return strings.EqualFold(m, method) })
}
