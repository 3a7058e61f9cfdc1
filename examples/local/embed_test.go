// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package local

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRenderWithoutOverlayIsThePolicyItself(t *testing.T) {
	got, err := Render(Overlay{})
	if err != nil {
		t.Fatal(err)
	}
	want, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != 4 {
		t.Errorf("policy/ has %d files, want 4", len(want))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("policy/platform is not what overlay/ makes (-policy +overlay):\n%s", d)
	}
}

func TestRenderAddsOnlyTheOverlay(t *testing.T) {
	plain, err := Render(Overlay{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Render(Overlay{Dial: "127.0.0.1:9443", Roots: `C:\twins "ca".pem`, AllowPrivate: "127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	added := map[string]int{}
	for name, doc := range got {
		have := map[string]int{}
		for line := range strings.SplitSeq(string(plain[name]), "\n") {
			have[line]++
		}
		for line := range strings.SplitSeq(string(doc), "\n") {
			if have[line]--; have[line] < 0 {
				added[strings.TrimSpace(line)]++
			}
		}
	}
	want := map[string]int{
		`dial: "127.0.0.1:9443"`:               5, // three destinations, two issuers
		`allowPrivate: ["127.0.0.0/8"]`:        5,
		"endpoint:":                            2,
		`tls: {roots: "C:\\twins \"ca\".pem"}`: 3,
		`roots: "C:\\twins \"ca\".pem"`:        2,
	}
	if d := cmp.Diff(want, added); d != "" {
		t.Error(d)
	}
}

func TestRenderRefusesHalfAnOverlay(t *testing.T) {
	for _, o := range []Overlay{{Dial: "127.0.0.1:1"}, {Roots: "ca.pem"}, {Dial: "127.0.0.1:1", Roots: "ca.pem"}} {
		if _, err := Render(o); err == nil {
			t.Errorf("%+v was rendered", o)
		}
	}
}

// The documents that people copy point at the real APIs and hold no secret.
func TestPolicyIsForProduction(t *testing.T) {
	docs, err := documents()
	if err != nil {
		t.Fatal(err)
	}
	for name, doc := range docs {
		for _, word := range []string{"127.0.0.1", "dial:", "allowPrivate", "roots:"} {
			if strings.Contains(string(doc), word) {
				t.Errorf("%s contains %q", name, word)
			}
		}
		if !strings.HasPrefix(string(doc), "# SPDX-FileCopyrightText: ") {
			t.Errorf("%s has no SPDX header", name)
		}
	}
}
