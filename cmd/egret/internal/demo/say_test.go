// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

// TestTellerHoldsTheStoryToItsChecks: one step that is not as told, and the story fails.
func TestTellerHoldsTheStoryToItsChecks(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	d := &Demo{say: &teller{w: &out}}
	d.say.check(true, "good")
	d.say.summary(time.Second)
	if d.say.failed != 0 || !strings.Contains(out.String(), "all 1 checks passed in 1s") {
		t.Errorf("%d failed:\n%s", d.say.failed, &out)
	}
	out.Reset()
	d.say.check(false, "a %s step", "bad")
	d.say.summary(time.Second)
	if d.say.failed != 1 || !strings.Contains(out.String(), "   FAIL         a bad step\n") || !strings.Contains(out.String(), "1 of 2 checks failed") {
		t.Errorf("%d failed:\n%s", d.say.failed, &out)
	}
	if strings.Contains(out.String(), "How to go on") {
		t.Error("a failed demo invites to go on")
	}
}

// TestVerdict is what the exit code comes from.
func TestVerdict(t *testing.T) {
	t.Parallel()
	d := &Demo{say: &teller{w: &bytes.Buffer{}}}
	bad := func(context.Context) { d.say.check(false, "no") }
	good := func(context.Context) { d.say.check(true, "yes") }
	if err := d.tell(t.Context(), good); err != nil {
		t.Errorf("good: %v", err)
	}
	if err := d.tell(t.Context(), good, bad, good); !errors.Is(err, errStory) {
		t.Errorf("bad: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	late := false
	err := d.tell(ctx, func(context.Context) { d.say.chapter("stuck"); cancel() }, func(context.Context) { late = true })
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "chapter 1") || late {
		t.Errorf("interrupted: %v, went on %v", err, late)
	}
}

func TestTellerEscapesAndPaints(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	plain := &teller{w: &out}
	plain.fact("body", "%s", "\x1b[31mred")
	plain.quote("a\x07b\n\x1b]0;x\n")
	plain.check(false, "%s", "\x1b[2J")
	if strings.ContainsAny(out.String(), "\x1b\x07") {
		t.Errorf("control characters of others: %q", &out)
	}
	out.Reset()
	(&teller{w: &out, color: true}).check(true, "fine")
	if out.String() != "   \x1b[32mok  \x1b[0m         fine\n" {
		t.Errorf("%q", &out)
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		n    int
		want []string
	}{
		{"", 40, []string{""}},
		{"short", 40, []string{"short"}},
		{"not broken where there is no terminal at all", -16, []string{"not broken where there is no terminal at all"}},
		{"one two three four five six", 20, []string{"one two three four", "five six"}},
		{"exactly twenty bytes", 20, []string{"exactly twenty bytes"}},
		{"a spiffe://acme.example/ns/qa/sa/dashboard b", 20, []string{"a", "spiffe://acme.example/ns/qa/sa/dashboard", "b"}},
		{"spiffe://acme.example/ns/qa/sa/dashboard", 20, []string{"spiffe://acme.example/ns/qa/sa/dashboard"}},
		{"äöü äöü äöü äöü äöü äöü", 20, []string{"äöü äöü äöü äöü äöü", "äöü"}},
	} {
		if diff := cmp.Diff(tc.want, wrap(tc.text, tc.n)); diff != "" {
			t.Errorf("%q at %d (-want +got):\n%s", tc.text, tc.n, diff)
		}
	}
}

// FuzzWrap: no word is lost or broken, and no line is longer than it must be.
func FuzzWrap(f *testing.F) {
	f.Add("one two three four five six seven", 20)
	f.Add("äöü äöü äöü äöü äöü äöü", 21)
	f.Add(" leading and  double ", 24)
	f.Fuzz(func(t *testing.T, text string, n int) {
		if !utf8.ValidString(text) || strings.ContainsAny(text, "\n") {
			t.Skip("wrap takes one line of valid text")
		}
		lines := wrap(text, n)
		words := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }) }
		if diff := cmp.Diff(words(text), words(strings.Join(lines, " "))); diff != "" {
			t.Fatal(diff)
		}
		for _, l := range lines {
			if n >= 20 && utf8.RuneCountInString(l) > n && strings.Contains(strings.TrimLeft(l, " "), " ") && len(lines) > 1 {
				t.Fatalf("%q is longer than %d", l, n)
			}
		}
	})
}

// TestNarrowTerminal: nothing but a word that cannot be broken is wider than the terminal.
func TestNarrowTerminal(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	s := &teller{w: &out, width: 60}
	s.head(time.Second)
	s.fact("asks", "GET https://api.qase.io/v1/project and something that goes on for longer than the terminal")
	s.check(true, "every request is credited to the workload, allowed by a named policy, and recorded")
	s.ok = 1
	s.summary(time.Second)
	for _, l := range strings.Split(out.String(), "\n") {
		if utf8.RuneCountInString(l) > 60 {
			t.Errorf("%d columns: %q", utf8.RuneCountInString(l), l)
		}
	}
}
