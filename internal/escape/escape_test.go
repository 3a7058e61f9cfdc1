// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package escape

import (
	"encoding/csv"
	"html"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// hostile are the seeds of every target.
var hostile = []string{
	"", "plain", "/api/v1/users?x", `back\slash`, "\x1b[2J\x1b]0;title\x07", "line\nbreak\r\n", "\x00\x7f\x9b", "\u009b31m",
	"\u202egpj.exe\u2066\u061c", "\u2028\u2029", "a\u200b\ufeffb", "\U000e0041", "\xff\xc3(", "\ufffd", "Grüße 世界 🐦", "\u00a0\u3000",
	"=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1", `=cmd|' /C calc'!A0`, `a,"b";c`,
	"<script>alert(1)</script>", `" onload='x'`, "&lt;", "| a | b", "`code`", "[x](javascript:1)", "![i](http://e)", "https://evil.example",
	"www.evil.example", "{{ .Secret }}", "~~x~~ **b** _i_", `"]; evil [label="`, `\N\G\l`, `trailing\`, "$$x$$", "--- | ---", "&#124;",
}

func TestMUST_A2_Table(t *testing.T) {
	for _, tc := range []struct {
		name     string
		f        func(string) string
		in, want string
	}{
		{"Terminal", Terminal, "a b/ü", "a b/ü"},
		{"Terminal", Terminal, "\x1b[31m\n", `\x1b[31m\n`},
		{"Terminal", Terminal, `\n`, `\\n`},
		{"Terminal", Terminal, "\u202e\u009b\xff\U000e0041", `\u202e\u009b\xff\U000e0041`},
		{"Terminal", Terminal, "\ufffd", "\ufffd"},
		{"CSV", CSV, "", `""`},
		{"CSV", CSV, `say "hi", all`, `"say ""hi"", all"`},
		{"CSV", CSV, "=1+1", `"'=1+1"`},
		{"CSV", CSV, " \u3000-1", `"' \u3000-1"`},
		{"CSV", CSV, "\tx", `"'\tx"`},
		{"CSV", CSV, "\rx", `"'\rx"`},
		{"CSV", CSV, "＝1", `"'＝1"`},
		{"CSV", CSV, "a=b", `"a=b"`},
		{"CSV", CSV, "a\nb", `"a\nb"`},
		{"HTML", HTML, `<a href="x" o='y'>&`, `&lt;a href=&#34;x&#34; o=&#39;y&#39;&gt;&amp;`},
		{"HTML", HTML, "\x00\u202e", `\x00\u202e`},
		{"Markdown", Markdown, "a|b", "a&#124;b"},
		{"Markdown", Markdown, "**x** <b>", `\*\*x\*\* &#60;b&#62;`},
		{"Markdown", Markdown, "[a](https://b.c)", `\[a\]\(https\://b\.c\)`},
		{"Markdown", Markdown, "a\nb", `a\\nb`},
		{"Markdown", Markdown, "{{x}}", "&#123;&#123;x&#125;&#125;"},
		{"DOT", DOT, `a"b\N`, `"a\"b\\N"`},
		{"DOT", DOT, "a\n", `"a\\n"`},
	} {
		t.Run(tc.name+" "+strconv.Quote(tc.in), func(t *testing.T) {
			if got := tc.f(tc.in); got != tc.want {
				t.Errorf("got %s, want %s", got, tc.want)
			}
		})
	}
}

// mustPrint fails where s holds anything that does not print: no byte below a space, no
// DEL, no C1, no line separator, no bidi.
func mustPrint(t *testing.T, in, out string) {
	t.Helper()
	if !utf8.ValidString(out) {
		t.Fatalf("%q gave invalid UTF-8 %q", in, out)
	}
	for _, r := range out {
		if !unicode.IsPrint(r) {
			t.Fatalf("%q gave %q with %U", in, out, r)
		}
	}
}

func fuzz(f *testing.F, property func(t *testing.T, s string)) {
	for _, s := range hostile {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { property(t, s) })
}

// Property: only what prints, and the reader can tell what the input was.
func FuzzMUST_A2_Terminal(f *testing.F) {
	fuzz(f, func(t *testing.T, s string) {
		out := Terminal(s)
		mustPrint(t, s, out)
		back, err := strconv.Unquote(`"` + strings.ReplaceAll(out, `"`, `\"`) + `"`)
		if err != nil || back != s {
			t.Fatalf("%q gave %q, read back as %q, %v", s, out, back, err)
		}
	})
}

// Property: between two neighbours it stays one field, which is no formula.
func FuzzMUST_A2_CSV(f *testing.F) {
	fuzz(f, func(t *testing.T, s string) {
		out := CSV(s)
		mustPrint(t, s, out)
		for _, comma := range ",;\t" {
			r := csv.NewReader(strings.NewReader("a" + string(comma) + out + string(comma) + "z\n"))
			r.Comma = comma
			row, err := r.Read()
			if err != nil || len(row) != 3 {
				t.Fatalf("%q gave %q: %q, %v", s, out, row, err)
			}
			if strings.TrimPrefix(row[1], "'") != strings.TrimPrefix(visible(s), "'") {
				t.Fatalf("%q came back as %q", s, row[1])
			}
			if field := strings.TrimSpace(row[1]); field != "" && strings.ContainsAny(field[:1], "=+-@\t\r\n") {
				t.Fatalf("%q gave the formula %q", s, row[1])
			}
		}
	})
}

// Property: no tag, no quote, no bare ampersand, and a browser shows the text.
func FuzzMUST_A2_HTML(f *testing.F) {
	fuzz(f, func(t *testing.T, s string) {
		out := HTML(s)
		mustPrint(t, s, out)
		if strings.ContainsAny(out, `<>"'`) {
			t.Fatalf("%q gave %q", s, out)
		}
		if back := html.UnescapeString(out); back != visible(s) {
			t.Fatalf("%q shows as %q", s, back)
		}
	})
}

// active matches what Markdown may act on where no backslash stands before it.
const active = "`*_[]()!~#$^:.@"

// Property: no raw pipe, angle bracket or brace; every active character has a backslash
// before it; and undoing both gives the text.
func FuzzMUST_A2_Markdown(f *testing.F) {
	entity := regexp.MustCompile(`&#(\d+);`)
	fuzz(f, func(t *testing.T, s string) {
		out := Markdown(s)
		mustPrint(t, s, out)
		if bare := entity.ReplaceAllString(out, ""); strings.ContainsAny(bare, "|<>{}&") {
			t.Fatalf("%q gave %q", s, out)
		}
		var back strings.Builder
		rest := []rune(out)
		for i := 0; i < len(rest); i++ {
			switch {
			case rest[i] == '\\' && i+1 < len(rest):
				i++
			case rest[i] == '\\' || strings.ContainsRune(active, rest[i]) && !inEntity(rest, i):
				t.Fatalf("%q gave %q, active at %d", s, out, i)
			}
			back.WriteRune(rest[i])
		}
		if got := html.UnescapeString(back.String()); got != visible(s) {
			t.Fatalf("%q shows as %q", s, got)
		}
	})
}

// inEntity: the number sign of a character reference.
func inEntity(s []rune, i int) bool { return s[i] == '#' && i > 0 && s[i-1] == '&' }

// Property: one quoted string that ends where it ends, without a label escape.
func FuzzMUST_A2_DOT(f *testing.F) {
	whole := regexp.MustCompile(`^"(?:[^"\\]|\\\\|\\")*"$`)
	fuzz(f, func(t *testing.T, s string) {
		out := DOT(s)
		mustPrint(t, s, out)
		if !whole.MatchString(out) {
			t.Fatalf("%q gave %s", s, out)
		}
		back := strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(out[1 : len(out)-1])
		if back != visible(s) {
			t.Fatalf("%q shows as %q", s, back)
		}
	})
}

func TestPlainTextIsNotCopied(t *testing.T) {
	s := "/api/chat.postMessage"
	if n := testing.AllocsPerRun(100, func() { _ = Terminal(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
