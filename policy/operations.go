// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// CheckOperation refuses what no rule may name as an operation. It is a name as an
// extractor gives it (s3:GetObject, query:repository, tools/call:search, tools/list), or
// the beginning of one, up to a colon or a slash at least, with a * at its end
// (s3:Get*, tools/call:*). Case counts. The star stands for one byte or more.
func CheckOperation(s string) error {
	name, wild := strings.CutSuffix(s, "*")
	switch {
	case s == "":
		return fmt.Errorf("operation must not be empty")
	case len(s) > maxOperation:
		return fmt.Errorf("operation %q must have at most 256 bytes", clip(s))
	case strings.Contains(name, "*"):
		return fmt.Errorf("operation %q may have a * at its end only", clip(s))
	case wild && !strings.ContainsAny(name, ":/"):
		return fmt.Errorf("operation %q must have a colon or a slash before its *: leave operations out where all are meant", clip(s))
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] >= 0x7f || strings.IndexByte(`"',\`, name[i]) >= 0 {
			return fmt.Errorf("operation %q must hold only printable ASCII without spaces, quotes, commas and backslashes", clip(s))
		}
	}
	return nil
}

const maxOperation = 256

// operationMatches reports whether an entry of Rule.Operations names an operation.
func operationMatches(entry, op string) bool {
	prefix, wild := strings.CutSuffix(entry, "*")
	if wild {
		return len(op) > len(prefix) && strings.HasPrefix(op, prefix)
	}
	return op != "" && entry == op
}

// operationsMeet reports whether some operation is named by both entries.
func operationsMeet(a, b string) bool {
	pa, wildA := strings.CutSuffix(a, "*")
	pb, wildB := strings.CutSuffix(b, "*")
	switch {
	case wildA && wildB:
		return strings.HasPrefix(pa, pb) || strings.HasPrefix(pb, pa)
	case wildA:
		return operationMatches(a, b)
	}
	return operationMatches(b, a)
}

// covers reports whether the rule grants an operation; "" is none that is known.
func (r *Rule) covers(op string) bool {
	return len(r.Operations) == 0 || slices.ContainsFunc(r.Operations, func(e string) bool { return operationMatches(e, op) })
}

// prefixRule is a rule by an operation that ends with *.
type prefixRule struct {
	method, prefix string
	rule           *Rule
}

// addPrefix keeps the longest prefix first; of equals, the one that names a method, then
// the one that came first.
func (e *entry) addPrefix(p prefixRule) {
	e.prefixes = append(e.prefixes, p)
	slices.SortStableFunc(e.prefixes, func(a, b prefixRule) int {
		return cmp.Or(cmp.Compare(len(b.prefix), len(a.prefix)), cmp.Compare(len(b.method), len(a.method)))
	})
}

// alike reports whether two rules let a request through in the same way, so that one
// request with an operation of each can be carried out as either says.
func (r *Rule) alike(o *Rule) bool {
	return r == o || r.Credential == o.Credential && r.Observe == o.Observe && r.SetCookie == o.SetCookie && r.WWWAuth == o.WWWAuth &&
		r.Mask == o.Mask && r.MaxStream == o.MaxStream && slices.Equal(r.AllowHeaders, o.AllowHeaders) &&
		slices.Equal(r.AllowQuery, o.AllowQuery) && slices.Equal(r.Upgrade, o.Upgrade) && slices.Equal(r.Minting, o.Minting)
}
