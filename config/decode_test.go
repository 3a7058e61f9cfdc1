// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gopkg.in/yaml.v3"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// everything has one field of every kind that the decoder knows.
type everything struct {
	S     string              `json:"s"`
	B     bool                `json:"b"`
	I     int                 `json:"i"`
	I8    int8                `json:"i8"`
	L     []string            `json:"l"`
	LL    [][]string          `json:"ll"`
	M     map[string]string   `json:"m"`
	ML    map[string][]string `json:"ml"`
	P     *inner              `json:"p"`
	Flag  *struct{}           `json:"flag"`
	D     time.Duration       `json:"d"`
	Z     Size                `json:"z"`
	PL    *[]string           `json:"pl"`
	PI    *int                `json:"pi"`
	Items []inner             `json:"items"`

	hidden string //nolint:unused // fields like it must not be found
	Skip   string `json:"-"`
}

type inner struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func (i *inner) setDefaults() { i.N = 7 }

func decodeText(t testing.TB, text string, out any) Faults {
	t.Helper()
	docs, faults := parse("f", []byte(text))
	for _, d := range docs {
		faults = append(faults, decode(d, out)...)
	}
	return faults.sorted()
}

func TestDecode(t *testing.T) {
	ptr := func(s ...string) *[]string { s = append([]string{}, s...); return &s }
	seven := 7
	tests := []struct {
		in   string
		want everything
	}{
		{"s: text", everything{S: "text"}},
		{"s: 2027-03-31", everything{S: "2027-03-31"}},
		{"s: 010", everything{S: "010"}},
		{"s: true", everything{S: "true"}},
		{"s: ''", everything{S: ""}},
		{"s: 'null'", everything{S: "null"}},
		{"s: |\n  two\n  lines\n", everything{S: "two\nlines\n"}},
		{"b: true", everything{B: true}},
		{"i: -3", everything{I: -3}},
		{"l: [a, 1, 2027-01-01]", everything{L: []string{"a", "1", "2027-01-01"}}},
		{"l: []", everything{L: []string{}}},
		{"ll: [[a], []]", everything{LL: [][]string{{"a"}, {}}}},
		{"m: {a: b}", everything{M: map[string]string{"a": "b"}}},
		{"ml: {ok: false, error: [a, b]}", everything{ML: map[string][]string{"ok": {"false"}, "error": {"a", "b"}}}},
		{"p: {name: x}", everything{P: &inner{Name: "x", N: 7}}},
		{"p: {n: 0}", everything{P: &inner{}}},
		{"flag: {}", everything{Flag: &struct{}{}}},
		{"d: 90s", everything{D: 90 * time.Second}},
		{"z: 64KiB", everything{Z: 64 << 10}},
		{"z: 12", everything{Z: 12}},
		{"pl: []", everything{PL: ptr()}},
		{"pl: [a]", everything{PL: ptr("a")}},
		{"pi: 7", everything{PI: &seven}},
		{"items: [{name: a}, {n: 1}]", everything{Items: []inner{{"a", 7}, {"", 1}}}},
		{"{}", everything{}},
		{"# only a comment\n---\n", everything{}},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			var got everything
			if faults := decodeText(t, tt.in, &got); len(faults) > 0 {
				t.Fatal(faults)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(everything{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeFaults(t *testing.T) {
	tests := []struct{ in, want string }{
		{"s: [a]", `f:1:4: s: must be a single string`},
		{"s:", `f:1:3: s: must have a value (write one, or leave the key out)`},
		{"s: ~", `f:1:4: s: must have a value (write one, or leave the key out)`},
		{"b: 1", `f:1:4: b: "1": must be true or false (write it without quotes)`},
		{"b: 'true'", `f:1:4: b: "true": must be true or false (write it without quotes)`},
		{"i: 1.5", `f:1:4: i: "1.5": must be a whole number (write decimal digits, without quotes)`},
		{"i: 0x10", `f:1:4: i: "0x10": must be a whole number (write decimal digits, without quotes)`},
		{"i: 1_000", `f:1:4: i: "1_000": must be a whole number (write decimal digits, without quotes)`},
		{"i8: 200", `f:1:5: i8: "200": must be a whole number (write decimal digits, without quotes)`},
		{"l: a", `f:1:4: l: "a": must be a list (write [a])`},
		{"l: {a: b}", `f:1:4: l: must be a list`},
		{"l: [a, {b: c}]", `f:1:8: l[1]: must be a single string`},
		{"l: [a, ]\nll: [[a, [b]]]", `f:2:10: ll[0][1]: must be a single string`},
		{"m: [a]", `f:1:4: m: must be a mapping`},
		{"ml: {a: {b: c}}", `f:1:9: ml.a: must be a list`},
		{"p: x", `f:1:4: p: "x": must be a mapping (known here: n, name)`},
		{"flag: true", `f:1:7: flag: "true": must be a mapping (write {})`},
		{"flag: {a: b}", `f:1:8: flag.a: is not a known key`},
		{"d: 5", `f:1:4: d: "5": must be a duration with a unit (write 500ms, 10s, 5m or 24h)`},
		{"z: -1", `f:1:4: z: "-1": must be a size in bytes (write 64KiB, 100MiB, 1GiB or a whole number of bytes)`},
		{"items: [{nam: a}]", `f:1:10: items[0].nam: is not a known key (did you mean "name"?)`},
		{"hidden: a", `f:1:1: hidden: is not a known key (known here: b, d, flag, i, i8, items, l, ll, m, ml, p, pi, pl, s, z)`},
		{"Skip: a", `f:1:1: Skip: is not a known key (known here: b, d, flag, i, i8, items, l, ll, m, ml, p, pi, pl, s, z)`},
		{"? [a]\n: b", `f:1:3: must have plain names as keys`},
		{"? &x a\n: b", `f:1:3: must not have a key with an anchor or a tag`},
		{"<<: {s: a}", `f:1:1: must not use a merge key (write the members out)`},
		{"s: !!binary aGk=", `f:1:4: s: must not have a tag (remove the word that begins with an exclamation mark)`},
		{"s: *x", `f: must be YAML: unknown anchor 'x' referenced`},
		{"s: \"\x01\"", `f: must be YAML: control characters are not allowed`},
		{strings.Repeat("k", 300) + ": a", `f:1:1: must not have a key longer than 253 bytes`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			if got := decodeText(t, tt.in, new(everything)).Error(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestBounds: what is refused before anything is decoded.
func TestBounds(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"file", "s: " + strings.Repeat("x", maxFileBytes), "must be at most 4MiB"},
		{"documents", strings.Repeat("s: a\n---\n", maxDocuments+1), "must hold at most 10000 documents"},
		{"depth", "ll: " + strings.Repeat("[", 40) + strings.Repeat("]", 40), "must be nested at most 32 deep"},
		{"deep blocks", strings.Repeat("- ", 3000) + "x", "must be nested at most 32 deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, faults := parse("f", []byte(tt.in))
			if len(faults) == 0 || !strings.Contains(faults.Error(), tt.want) {
				t.Errorf("got %.200s, want %q", faults.Error(), tt.want)
			}
		})
	}
}

func TestFaultsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "key%d: x\n", i)
	}
	if n := len(decodeText(t, b.String(), new(everything))); n != maxFaults {
		t.Errorf("%d faults, want %d", n, maxFaults)
	}
}

// TestMUST_C9_FaultsHideSecrets: whatever somebody pastes where a secret's place is
// expected is not in the report.
func TestMUST_C9_FaultsHideSecrets(t *testing.T) {
	const token = "xoxb-12345-hunter2"
	head := "apiVersion: egret.dev/v1alpha1\nkind: Credential\nmetadata: {name: a}\nspec:\n"
	for _, in := range []string{
		"  provider: " + token,
		"  provider: {static: " + token + "}",
		"  provider: {static: {value: " + token + "}}",
		"  provider: {static: {value: {" + token + ": x}}}",
		"  provider: {static: {value: {file: [" + token + "]}}}",
		"  provider: {static: {value: {token: " + token + "}}}",
		"  provider: {oauth2: {clientSecret: " + token + "}}",
		"  provider: {oauth2: {clientSecret: [" + token + "]}}",
		"  provider: {oauth2: {clientSecret: {" + token + ": 1, " + token + ": 2}}}",
		"  inject: [{value: [" + token + "]}]",
		"  inject: [{value: {" + token + ": 1}}]",
	} {
		docs, faults := parse("f", []byte(head+in))
		for _, d := range docs {
			_, found, _ := decodeObject(d)
			faults = append(faults, found...)
		}
		asJSON, err := json.Marshal(faults)
		check(t, err)
		for _, text := range []string{faults.Error(), fmt.Sprintf("%+v", faults), string(asJSON)} {
			if len(faults) == 0 || strings.Contains(text, token) {
				t.Errorf("%s: %d faults: %s", in, len(faults), text)
			}
		}
	}
}

// TestFaultOfValidationHidesSecrets: a fault that another package makes is shown by
// the same rule.
func TestFaultOfValidationHidesSecrets(t *testing.T) {
	docs := &Documents{places: []document{{file: "f", root: &yaml.Node{Kind: yaml.MappingNode}}}}
	for path, want := range map[string]string{
		"spec.provider.static.value":             "[redacted]",
		"spec.provider.static.value.token":       "[redacted]",
		"spec.provider.static.value.file":        "x",
		"spec.provider.oauth2.clientSecret.file": "x",
		"spec.inject[0].value":                   "[redacted]",
		"spec.provider.unheard.of":               "[redacted]",
		"spec.provider.oauth2.clientID":          "x",
		"spec.provider.oauth2.scopes[2]":         "x",
		"spec.hosts[0]":                          "x",
		"spec.values":                            "x",
	} {
		for _, object := range []int{0, 9} {
			if got := docs.Fault(object, api.Fault{Path: path, Value: "x"}).Value; got != want {
				t.Errorf("%s shows %q, want %q", path, got, want)
			}
		}
	}
	f := docs.Fault(0, api.Fault{Path: "spec.provider.oauth2.tokenURL", Value: "https://u:p@h/"})
	if f.Value != "[redacted]" {
		t.Errorf("a URL with a password is shown: %q", f.Value)
	}
}

func TestLocate(t *testing.T) {
	docs, faults := parse("f", []byte(`spec:
  hosts:
    - a
    - b
  json: {a.b: {c: 1}, a: 2}
  nested:
    deep: {}
`))
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for path, want := range map[string]string{
		"":                     "1:1",
		"spec":                 "1:1",
		"spec.hosts":           "2:3",
		"spec.hosts[1]":        "4:7",
		"spec.hosts[2]":        "2:3",
		"spec.hosts[x]":        "2:3",
		"spec.hosts[-1]":       "2:3",
		"spec.hosts[1].z":      "4:7",
		"spec.json.a.b.c":      "5:19",
		"spec.json.a":          "5:26",
		"spec.nested.deep.x.y": "7:5",
		"spec.missing":         "1:1",
		"metadata.name":        "1:1",
		"[0]":                  "1:1",
		"..":                   "1:1",
	} {
		line, column := locate(docs[0].root, path)
		if got := fmt.Sprintf("%d:%d", line, column); got != want {
			t.Errorf("locate(%q) = %s, want %s", path, got, want)
		}
	}
}

func TestSize(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "12": 12, "64KiB": 64 << 10, "100MiB": 100 << 20, "1GiB": 1 << 30} {
		got, err := ParseSize(in)
		if err != nil || got != want || got.String() != in {
			t.Errorf("ParseSize(%q) = %d, %v, printed %q", in, got, err, got)
		}
	}
	for _, in := range []string{"", "KiB", "-1", "+1", "1KB", "1 KiB", "1.5GiB", "9999999999GiB", "0x10", "18446744073709551616"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", in, got)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"clientSecret", "tokenURL", "scopes"}
	for in, want := range map[string]string{
		"client_secret": `did you mean "clientSecret"?`,
		"ClientSecret":  `did you mean "clientSecret"?`,
		"scope":         `did you mean "scopes"?`,
		"tokenUri":      `did you mean "tokenURL"?`,
		"nothing":       "known here: clientSecret, scopes, tokenURL",
	} {
		if got := suggest(in, known); got != want {
			t.Errorf("suggest(%q) = %s, want %s", in, got, want)
		}
	}
	if got := suggest(strings.Repeat("scopes", 100), known); !strings.HasPrefix(got, "known here") {
		t.Errorf("a long name is compared: %s", got)
	}
}

func TestFaultText(t *testing.T) {
	for want, f := range map[string]Fault{
		`a.yaml:12:5: spec.hosts[0]: "x_y": must be a host name (use dashes)`: {"a.yaml", 12, 5, "spec.hosts[0]", "x_y", "must be a host name", "use dashes"},
		`a.yaml: must be YAML`:       {File: "a.yaml", Rule: "must be YAML"},
		`p: "a\n\x1b[31m": is wrong`: {Path: "p", Value: "a\n\x1b[31m", Rule: "is wrong"},
	} {
		if got := f.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if (Faults{}).Err() != nil || (Faults{{Rule: "x"}}).Err() == nil {
		t.Error("Err does not tell faults from none")
	}
}

// FuzzDecode: no input makes the decoder panic, and what loads without a fault loads
// the same again from its own JSON form, which is YAML too.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{"s: a", "ml: {ok: false}", "items: [{name: a}]", "<<: *a", "a: &a [*a]", "? [a]: b", "pl: []\nflag: {}", "\xff", "--- !!x", "%YAML 9", "d: 5s\nz: 1KiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var first, second everything
		if faults := decodeText(t, text, &first); len(faults) > 0 {
			_ = faults.Error()
			return
		}
		first.D, first.Z = 0, 0 // numbers in JSON, text in YAML
		again, err := json.Marshal(first)
		check(t, err)
		if faults := decodeText(t, withoutNull(t, again), &second); len(faults) > 0 {
			t.Fatalf("%q loads, but not as %s: %v", text, again, faults)
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%q changed: %s", text, cmp.Diff(first, second, cmp.AllowUnexported(everything{})))
		}
	})
}

// withoutNull drops members that are not set, which YAML says by leaving them out,
// and those that JSON writes as a number where YAML wants a unit.
func withoutNull(t testing.TB, data []byte) string {
	var members map[string]json.RawMessage
	check(t, json.Unmarshal(data, &members))
	delete(members, "d")
	delete(members, "z")
	for k, v := range members {
		if string(v) == "null" {
			delete(members, k)
		}
	}
	out, err := json.Marshal(members)
	check(t, err)
	return string(out)
}

// FuzzObject: any text is a fault or an object, and every fault has a place.
func FuzzObject(f *testing.F) {
	f.Add("apiVersion: egret.dev/v1alpha1\nkind: Workload\nspec: {owner: a}")
	f.Add("kind: Credential\nspec: {provider: {static: {value: x}}}")
	f.Add("a: &a [*a, *a]\nb: [*a, *a]")
	f.Fuzz(func(t *testing.T, text string) {
		docs, faults := parse("f", []byte(text))
		for _, d := range docs {
			_, found, _ := decodeObject(d)
			for _, fault := range found {
				if fault.Line == 0 || fault.Column == 0 {
					t.Errorf("fault without a place: %+v", fault)
				}
			}
			faults = append(faults, found...)
			locate(d.root, text)
		}
		_ = faults.sorted().Error()
	})
}
