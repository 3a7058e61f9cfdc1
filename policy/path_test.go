// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestMUST_H6_AmbiguousPathsAreRefused(t *testing.T) {
	const both, strictOnly, fine = "both", "strict", "fine"
	for p, want := range map[string]string{
		"/":                             fine,
		"/api/chat.postMessage":         fine,
		"/a/":                           fine,
		"/a/.hidden/..x/x..":            fine,
		"/a%20b/%C3%A9/%7Euser":         fine,
		"/%23holiday%40group/x":         fine,
		"/a:b@c!$&'()*+,=-_~":           fine,
		"":                              both,
		"*":                             both,
		"a/b":                           both,
		"//":                            both,
		"/a//b":                         both,
		"/./a":                          both,
		"/a/..":                         both,
		"/a/../b":                       both,
		"/a/..;/b":                      both,
		"/a;x=1/b":                      both,
		`/a\b`:                          both,
		"/a\x00":                        both,
		"/a\x7f":                        both,
		"/a b":                          both,
		"/a\n":                          both,
		"/é":                            both,
		"/a?b":                          both,
		"/a#b":                          both,
		"/a%":                           both,
		"/a%2":                          both,
		"/a%zz":                         both,
		"/a%00":                         both,
		"/a%0d%0a":                      both,
		"/a%5cb":                        both,
		"/a%5Cb":                        both,
		"/a/%2e%2e/b":                   both,
		"/a/%2E./b":                     both,
		"/a/.%2e":                       both,
		"/a/%2e":                        both,
		"/a%2f..%2fb":                   both,
		"/a/..%2fb":                     both,
		"/a/..%3bx/b":                   both,
		"/a%c0%ae%c0%ae/b":              both, // overlong dots
		"/a/%252e%252e/b":               both,
		"/a%252f..%252fb":               both,
		"/a/%25%32%65%2e":               both,
		"/a%255cb":                      both,
		"/a%2500":                       both,
		"/" + strings.Repeat("a", 8192): both,
		"/projects/group%2Fproject":     strictOnly,
		"/projects/group%2fproject":     strictOnly,
		"/a%25b":                        strictOnly,
		"/a%252Fb":                      strictOnly,
		"/a%2eb":                        strictOnly,
		"/a%3Bb":                        strictOnly,
		"/" + strings.Repeat("a", 8191): fine,
	} {
		strict, encoded := CheckPath(p, false) == nil, CheckPath(p, true) == nil
		if strict != (want == fine) || encoded != (want != both) {
			t.Errorf("CheckPath(%.60q): strict %v, encoded %v; want refused: %s", p, strict, encoded, want)
		}
	}
}

func TestCheckTemplate(t *testing.T) {
	for in, ok := range map[string]bool{
		"/": true, "/**": true, "/*": true, "/a/*/b": true, "/a/*/**": true, "/a/%2A": true, "/a/": true,
		"": false, "a": false, "**": false, "/**/a": false, "/a*": false, "/a/***": false, "/a/**/": false,
		"/a//b": false, "/../a": false, "/a%2Fb": false, "/a?b": false, "/" + strings.Repeat("a", 9000): false,
	} {
		if err := CheckTemplate(in, false); (err == nil) != ok {
			t.Errorf("CheckTemplate(%.40q) = %v, want ok %v", in, err, ok)
		}
	}
	if err := CheckTemplate("/a%2Fb", true); err != nil {
		t.Errorf("CheckTemplate of an encoded template: %v", err)
	}
}

func addPaths(f *testing.F) {
	for _, p := range []string{"/", "/a/b", "/a%2fb", "/a/..%2f", "/%252e%252e/", "/a;b", "/%c0%ae", "/a%", "/é", "/*", "/a/%2E%2e"} {
		f.Add(p)
	}
}

// FuzzMUST_H6_StrictPathsHaveOneMeaning: what passes means the same to who cleans first
// and to who decodes first.
func FuzzMUST_H6_StrictPathsHaveOneMeaning(f *testing.F) {
	addPaths(f)
	f.Fuzz(func(t *testing.T, raw string) {
		if bad := rawProblem(raw); ordinary(raw) && (bad != "" || strings.Contains(raw, "%")) {
			t.Errorf("%q is taken for ordinary, but %s", raw, bad)
		}
		if CheckPath(raw, false) != nil {
			return
		}
		if CheckPath(raw, true) != nil {
			t.Fatalf("%q passes strict and not encoded", raw)
		}
		decoded, err := url.PathUnescape(raw)
		if err != nil {
			t.Fatalf("%q passes and is no path: %v", raw, err)
		}
		for _, p := range []string{raw, decoded} {
			if want := "/" + strings.Trim(p, "/"); path.Clean(p) != want {
				t.Fatalf("%q cleans to %q, want %q", p, path.Clean(p), want)
			}
		}
		if strings.Count(raw, "/") != strings.Count(decoded, "/") || unescape(decoded) != decoded || strings.ContainsAny(decoded, "\\;\x00") {
			t.Fatalf("%q changes its meaning by decoding to %q", raw, decoded)
		}
		u, err := url.ParseRequestURI(raw)
		if err != nil || u.Path != decoded || u.RawQuery != "" || u.Host != "" {
			t.Fatalf("net/url reads %q as %+v, %v", raw, u, err)
		}
	})
}

func FuzzMUST_H6_EncodedPathsHideNoDotSegment(f *testing.F) {
	addPaths(f)
	f.Fuzz(func(t *testing.T, raw string) {
		if CheckPath(raw, true) != nil {
			return
		}
		once, err := url.PathUnescape(raw)
		if err != nil {
			t.Fatalf("%q passes and is no path: %v", raw, err)
		}
		for _, p := range []string{raw, once, unescape(once)} {
			parts := strings.Split(p, "/")
			if slices.Contains(parts, ".") || slices.Contains(parts, "..") || strings.ContainsAny(p, "\\\x00") {
				t.Fatalf("%q passes and is %q to somebody", raw, p)
			}
		}
	})
}
