// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/egret-proxy/egret/policy"
)

// faults collects everything that is wrong with one object.
type faults []Fault

func (f *faults) add(x Fault) { *f = append(*f, x) }

// bad adds a fault that needs no hint.
func (f *faults) bad(path, value, rule string) { f.add(Fault{Path: path, Value: value, Rule: rule}) }

// wrong adds a fault whose rule is the text of an error.
func (f *faults) wrong(path, value string, err error) {
	if err != nil {
		f.bad(path, value, err.Error())
	}
}

// head checks what every object begins with.
func (f *faults) head(apiVersion, kind, want string) {
	f.oneOf("apiVersion", apiVersion, APIVersion)
	f.oneOf("kind", kind, want)
}

func (f *faults) oneOf(path, value string, allowed ...string) {
	for _, a := range allowed {
		if value == a {
			return
		}
	}
	allowed = slices.DeleteFunc(slices.Clone(allowed), func(a string) bool { return a == "" }) // absent is not a word to write
	if len(allowed) == 1 {
		f.bad(path, value, "must be "+allowed[0])
		return
	}
	f.bad(path, value, "must be one of "+strings.Join(allowed, ", "))
}

const nameRule = "must be lower-case letters, digits and dashes, at most 63, and begin and end with a letter or digit"

// name checks the name of an object or a reference to one.
func (f *faults) name(path, value string) {
	if !validName(value) {
		f.bad(path, value, nameRule)
	}
}

func validName(s string) bool {
	const edge = "abcdefghijklmnopqrstuvwxyz0123456789"
	return s != "" && len(s) <= 63 && strings.Trim(s, edge+"-") == "" &&
		strings.IndexByte(edge, s[0]) >= 0 && strings.IndexByte(edge, s[len(s)-1]) >= 0
}

// line checks a required text of one line.
func (f *faults) line(path, value string) {
	if strings.TrimSpace(value) == "" {
		f.bad(path, value, "is required")
		return
	}
	f.optionalLine(path, value)
}

const maxLine = 1024

func (f *faults) optionalLine(path, value string) {
	if len(value) > maxLine {
		f.bad(path, value[:maxLine], "must have at most 1024 bytes")
	} else if !printable(value) {
		f.bad(path, value, "must be one line of printable text")
	}
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) < 0
}

// absent checks that a setting is not there that would be ignored.
func (f *faults) absent(path string, set bool, because string) {
	if set {
		f.bad(path, "", "must be absent "+because+", where it would be ignored")
	}
}

// distinct checks that no value stands twice in a list.
func (f *faults) distinct(path string, list []string) {
	seen := map[string]bool{}
	for i, s := range list {
		if seen[s] {
			f.bad(at(path, i), s, "must stand only once in the list")
		}
		seen[s] = true
	}
}

// at names an element of a list.
func at(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }

// span is the range that a duration must lie in.
type span struct{ least, most time.Duration }

// duration reads a duration, "" as zero.
func (f *faults) duration(path, value string, s span) time.Duration {
	if value == "" {
		return 0
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < s.least || d > s.most {
		f.add(Fault{path, value, fmt.Sprintf("must be a duration from %s to %s", short(s.least), short(s.most)), "write it as 90s, 30m or 2h"})
		return 0
	}
	return d
}

// short prints a duration without zero parts.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

// date reads a day and returns the first instant after it, UTC; zero where it is faulty
// or empty.
func (f *faults) date(path, value string) time.Time {
	if value == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.DateOnly, value)
	if err != nil {
		f.add(Fault{path, value, "must be a date", "write it as 2027-03-31; the grant ends with that day, UTC"})
		return time.Time{}
	}
	return t.AddDate(0, 0, 1)
}

// prefixes reads private ranges.
func (f *faults) prefixes(path string, list []string) []netip.Prefix {
	var out []netip.Prefix
	f.distinct(path, list)
	for i, s := range list {
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			f.add(Fault{at(path, i), s, "must be an address range in CIDR form", "write it as 10.20.0.0/16"})
		case p != p.Masked():
			f.add(Fault{at(path, i), s, "must have no bits set after the prefix", "did you mean " + p.Masked().String() + "?"})
		case p.Bits() == 0 || p.Addr().Is4In6():
			f.bad(at(path, i), s, "must name a private range, not everything")
		default:
			out = append(out, p)
		}
	}
	return out
}

// dial checks a "host:port" that is connected to instead of resolving.
func (f *faults) dial(path, value string) {
	if value == "" {
		return
	}
	if _, err := policy.ParseTarget(value); err != nil {
		f.wrong(path, value, err)
	}
}

// file checks a path in an object. Nothing is opened here.
func (f *faults) file(path, value string) {
	if value == "" || strings.ContainsRune(value, 0) || strings.HasSuffix(value, "/") {
		f.bad(path, value, "must be the path of a file")
	}
}
