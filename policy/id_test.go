// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"pgregory.net/rapid"
)

func TestParseIDPattern(t *testing.T) {
	for in, ok := range map[string]bool{
		"spiffe://acme.example/ns/qa/sa/x": true,
		"spiffe://acme.example/ns/*/*/*":   true,
		"spiffe://acme.example/*":          true,
		"spiffe://acme.example":            false,
		"spiffe://acme.example/":           false,
		"spiffe://acme.example/ns/":        false,
		"spiffe://acme.example/ns/qa*":     false,
		"spiffe://acme.example/ns/**":      false,
		"spiffe://*/ns/qa":                 false,
		"spiffe://*.example/ns/qa":         false,
		"spiffe://ACME.example/ns/qa":      false,
		"https://acme.example/ns/qa":       false,
		"spiffe://acme.example/../qa":      false,
		"spiffe://acme.example/a b":        false,
		"spiffe:///ns":                     false,
		"":                                 false,
		"*":                                false,
	} {
		if _, err := ParseIDPattern(in); (err == nil) != ok {
			t.Errorf("ParseIDPattern(%q) = %v, want ok %v", in, err, ok)
		}
	}
	for in, ok := range map[string]bool{"spiffe://acme.example/**": true, "spiffe://acme.example/ns/*/**": true, "spiffe://acme.example/**/x": false, "/**": false} {
		if _, err := ParseIDScope(in); (err == nil) != ok {
			t.Errorf("ParseIDScope(%q) = %v, want ok %v", in, err, ok)
		}
	}
}

func TestZeroIDPatternMatchesNothing(t *testing.T) {
	var zero IDPattern
	if zero.Matches(spiffeid.ID{}) || zero.Covers(zero) || zero.Overlaps(zero) || zero.Exact() {
		t.Error("the zero pattern matches something")
	}
}

func idGen(alphabet []string, last ...string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		s := "spiffe://" + rapid.SampledFrom([]string{"a.example", "b.example"}).Draw(t, "domain")
		for range rapid.IntRange(1, 3).Draw(t, "depth") {
			s += "/" + rapid.SampledFrom(alphabet).Draw(t, "segment")
		}
		return s + rapid.SampledFrom(append(last, "")).Draw(t, "last")
	})
}

// TestIDPatternAlgebra: covers and overlaps agree with matching, ID by ID.
func TestIDPatternAlgebra(t *testing.T) {
	ids, patterns := idGen([]string{"x", "y"}), idGen([]string{"x", "y", "*"}, "/**")
	rapid.Check(t, func(t *rapid.T) {
		p, err1 := ParseIDScope(patterns.Draw(t, "p"))
		q, err2 := ParseIDScope(patterns.Draw(t, "q"))
		id, err3 := spiffeid.FromString(ids.Draw(t, "id"))
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
		inP, inQ := p.Matches(id), q.Matches(id)
		if inP && inQ && !p.Overlaps(q) {
			t.Fatalf("%s and %s share %s and do not overlap", p, q, id)
		}
		if p.Overlaps(q) != q.Overlaps(p) {
			t.Fatalf("overlap of %s and %s depends on the order", p, q)
		}
		if p.Covers(q) && (inQ && !inP || !p.Overlaps(q)) {
			t.Fatalf("%s covers %s and yet %s", p, q, id)
		}
	})
}

func TestIDPatternsThatDoNotOverlap(t *testing.T) {
	for _, c := range [][2]string{
		{"spiffe://a.example/x/*", "spiffe://a.example/y/*"},
		{"spiffe://a.example/x/*", "spiffe://b.example/x/*"},
		{"spiffe://a.example/x", "spiffe://a.example/x/*"},
		{"spiffe://a.example/x/**", "spiffe://a.example/x"},
		{"spiffe://a.example/x/y/z", "spiffe://a.example/x/y"},
	} {
		p, _ := ParseIDScope(c[0])
		q, _ := ParseIDScope(c[1])
		if p.Overlaps(q) || q.Overlaps(p) {
			t.Errorf("%s overlaps %s", p, q)
		}
	}
}

// TestOverlappingIDsFindsAPairWhereThereIsOne compares with looking at every pair.
func TestOverlappingIDsFindsAPairWhereThereIsOne(t *testing.T) {
	one := idGen([]string{"x", "y", "*"})
	rapid.Check(t, func(t *rapid.T) {
		var list []IDPattern
		want := false
		for _, s := range rapid.SliceOfN(one, 0, 6).Draw(t, "patterns") {
			p, err := ParseIDPattern(s)
			if err != nil {
				t.Fatal(err)
			}
			for _, q := range list {
				want = want || p.Overlaps(q)
			}
			list = append(list, p)
		}
		got := OverlappingIDs(list)
		if (len(got) > 0) != want {
			t.Fatalf("%v: found %v, want some %v", list, got, want)
		}
		for _, pair := range got {
			if pair[0] >= pair[1] || !list[pair[0]].Overlaps(list[pair[1]]) {
				t.Fatalf("%v: %v do not overlap", list, pair)
			}
		}
	})
}
