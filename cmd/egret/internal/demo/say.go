// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/egret-proxy/egret/internal/escape"
)

// teller prints the story and counts what was not as told.
type teller struct {
	w      io.Writer
	color  bool
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
	t.line(t.paint(bold, "egret demo") + "  a nightly job reads test results from Qase and posts them to Slack.")
	t.line("            It holds no token. Everything runs on this machine's loopback; the two")
	t.line("            SaaS are twins that check what they are sent as the real ones do.")
	t.line(t.paint(faint, fmt.Sprintf("            started in %s", took.Round(time.Millisecond))))
}

// chapter begins a numbered step.
func (t *teller) chapter(title string) {
	t.step++
	t.line("")
	t.line(t.paint(bold, fmt.Sprintf("%d. %s", t.step, title)))
}

// fact prints one named line. The value may hold what a caller or a SaaS wrote.
func (t *teller) fact(name, format string, args ...any) {
	value := escape.Terminal(fmt.Sprintf(format, args...))
	t.line(fmt.Sprintf("   %-12s %s", name, value))
}

// quote prints a program's output, indented.
func (t *teller) quote(text string) {
	for _, l := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		t.line(t.paint(faint, "   | ") + escape.Terminal(l))
	}
}

// check holds the story to what it should be.
func (t *teller) check(ok bool, format string, args ...any) {
	text := escape.Terminal(fmt.Sprintf(format, args...))
	if ok {
		t.ok++
		t.line("   " + t.paint(green, "ok  ") + "         " + text)
		return
	}
	t.failed++
	t.line("   " + t.paint(red, "FAIL") + "         " + text)
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
	t.line("   egret demo --keep                         leave it running and call it yourself with curl")
	t.line("   examples/local/                           the job and the policy that you have just seen")
	t.line("   egret check examples/local/policy         every fault of a policy at once")
	t.line("   egret exec --help                         run your own program behind egret")
	t.line("   README.md                                 run it for real: CA, SPIRE, egret.yaml")
}
