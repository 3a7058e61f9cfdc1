// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/egret-proxy/egret/internal/escape"
)

// teller prints the story and counts what was not as told.
type teller struct {
	w      io.Writer
	color  bool
	width  int // 0: lines are not broken
	step   int
	ok     int
	failed int
}

const (
	bold  = "\x1b[1m"
	green = "\x1b[32m"
	red   = "\x1b[31m"
	faint = "\x1b[2m"
	reset = "\x1b[0m"
)

func (t *teller) paint(style, s string) string {
	if !t.color {
		return s
	}
	return style + s + reset
}

func (t *teller) line(s string) { _, _ = fmt.Fprintln(t.w, s) }

func (t *teller) head(took time.Duration) {
	t.line(t.paint(bold, "egret demo") + t.paint(faint, fmt.Sprintf("  started in %s", took.Round(time.Millisecond))))
	n := 84
	if t.width > 0 {
		n = min(n, t.width)
	}
	for _, l := range wrap("A nightly job reads test results from Qase and posts them to Slack. It holds no token. "+
		"Everything runs on this machine's loopback; the SaaS are twins that check what they are sent as the real ones do.", n) {
		t.line(l)
	}
}

// chapter begins a numbered step.
func (t *teller) chapter(title string) {
	t.step++
	t.line("")
	t.line(t.paint(bold, fmt.Sprintf("%d. %s", t.step, title)))
}

// margin is where values begin.
const margin = 16

// fact prints one named line. The value may hold what a caller or a SaaS wrote.
func (t *teller) fact(name, format string, args ...any) {
	t.value(fmt.Sprintf("   %-12s ", name), fmt.Sprintf(format, args...))
}

// value prints text behind a head of margin columns, broken at words where the terminal
// is narrow.
func (t *teller) value(head, text string) {
	for _, l := range wrap(escape.Terminal(text), t.width-margin) {
		t.line(head + l)
		head = strings.Repeat(" ", margin)
	}
}

// wrap breaks text at spaces into lines of at most n runes; a word that is longer stays
// whole, so that it can be copied. Under 20 columns nothing is gained by breaking.
func wrap(text string, n int) []string {
	if n < 20 {
		return []string{text}
	}
	var lines []string
	for utf8.RuneCountInString(text) > n {
		cut := strings.LastIndexByte(string([]rune(text)[:n+1]), ' ')
		if cut <= 0 {
			if cut = strings.IndexByte(text, ' '); cut <= 0 {
				break
			}
		}
		lines, text = append(lines, text[:cut]), strings.TrimLeft(text[cut:], " ")
	}
	return append(lines, text)
}

// quote prints a program's output, indented.
func (t *teller) quote(text string) {
	for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		t.line(t.paint(faint, "   | ") + escape.Terminal(l))
	}
}

// check holds the story to what it should be.
func (t *teller) check(ok bool, format string, args ...any) {
	mark := t.paint(green, "ok  ")
	if ok {
		t.ok++
	} else {
		t.failed++
		mark = t.paint(red, "FAIL")
	}
	t.value("   "+mark+"         ", fmt.Sprintf(format, args...))
}

func (t *teller) summary(took time.Duration) {
	t.line("")
	if t.failed > 0 {
		t.line(t.paint(red, fmt.Sprintf("%d of %d checks failed", t.failed, t.ok+t.failed)) + fmt.Sprintf(" (%s)", took.Round(time.Millisecond)))
		return
	}
	t.line(t.paint(green, fmt.Sprintf("all %d checks passed", t.ok)) + fmt.Sprintf(" in %s", took.Round(10*time.Millisecond)))
	t.line("")
	t.line("How to go on")
	t.next("egret demo --keep", "leave it running and call it yourself with curl")
	t.next("examples/local/", "the job and the policy that you have just seen")
	t.next("egret check examples/local/policy", "every fault of a policy at once")
	t.next("egret exec --help", "run your own program behind egret")
	t.next("README.md", "run it for real: CA, SPIRE, egret.yaml")
}

// next prints one way to go on.
func (t *teller) next(what, why string) {
	if t.width > 0 && t.width < 90 {
		t.line("   " + what)
		t.line("      " + why)
		return
	}
	t.line(fmt.Sprintf("   %-41s %s", what, why))
}
