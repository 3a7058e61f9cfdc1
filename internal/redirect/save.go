// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"slices"
	"strings"
)

// iptablesScript is what iptables-restore --noflush is given, where iptables-save says
// save: each table is replaced at once. A chain that is declared is emptied where it is
// there; the jumps are those that are missing, and come first, so that no other rule lets
// a connection out before. What another mode has left is taken out.
func iptablesScript(p *Plan, family, save string) string {
	has := readSave(save)
	want := jumps(p.options.Mode)
	var b strings.Builder
	for _, table := range iptablesTables() {
		var part strings.Builder
		declare(&part, table, want)
		for _, r := range p.rules {
			if r.Family == family && r.Table == table {
				writeRule(&part, r, has[table])
			}
		}
		has[table].without(want, table).drop(&part)
		if part.Len() > 0 {
			fmt.Fprintf(&b, "*%s\n%sCOMMIT\n", table, part.String())
		}
	}
	return b.String()
}

func declare(b *strings.Builder, table string, want []jump) {
	for _, j := range want {
		if j.table == table {
			fmt.Fprintf(b, ":%s - [0:0]\n", j.to)
		}
	}
}

// writeRule adds a rule to egret's own chain, or puts the jump there first where it is not
// there yet.
func writeRule(b *strings.Builder, r Rule, has found) {
	verb, where := "-A", r.Chain
	if !strings.HasPrefix(r.Chain, "EGRET_") {
		if slices.ContainsFunc(has.jumps, func(j jump) bool { return j.from == r.Chain && j.rule() == r.Rule }) {
			return
		}
		verb, where = "-I", r.Chain+" 1"
	}
	fmt.Fprintf(b, "# %s\n%s %s %s\n", r.Reason, verb, where, r.Rule)
}

// found is what of egret's a table holds.
type found struct {
	chains []string
	jumps  []jump // as often as they are there
}

func (f found) any() bool { return len(f.chains)+len(f.jumps) > 0 }

// without is what is found but not wanted.
func (f found) without(want []jump, table string) found {
	kept := func(chain string) bool {
		return slices.ContainsFunc(want, func(j jump) bool { return j.table == table && j.to == chain })
	}
	return found{
		chains: slices.DeleteFunc(slices.Clone(f.chains), kept),
		jumps:  slices.DeleteFunc(slices.Clone(f.jumps), func(j jump) bool { return slices.Contains(want, j) }),
	}
}

// drop takes it out.
func (f found) drop(b *strings.Builder) {
	for _, j := range f.jumps {
		fmt.Fprintf(b, "-D %s %s\n", j.from, j.rule())
	}
	for _, c := range f.chains {
		fmt.Fprintf(b, "-F %s\n-X %[1]s\n", c)
	}
}

// readSave finds egret's chains, and the jumps to them, in the output of iptables-save.
func readSave(save string) map[string]found {
	out := map[string]found{}
	table := ""
	for line := range strings.Lines(save) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "*"); ok {
			table = name
			continue
		}
		f := out[table]
		for _, j := range everyJump() {
			if j.table != table {
				continue
			}
			if strings.HasPrefix(line, ":"+j.to+" ") {
				f.chains = append(f.chains, j.to)
			}
			if line == "-A "+j.from+" "+j.rule() {
				f.jumps = append(f.jumps, j)
			}
		}
		if f.any() {
			out[table] = f
		}
	}
	return out
}

// diverts reports whether a save holds egret's rules as TPROXY has them.
func diverts(save string) bool { return readSave(save)["mangle"].any() }

// removal is what iptables-restore --noflush is given to take all of egret's out, "" where
// nothing is there.
func removal(save string) string {
	has := readSave(save)
	var b strings.Builder
	tables := iptablesTables()
	slices.Reverse(tables)
	for _, table := range tables {
		if f := has[table]; f.any() {
			fmt.Fprintf(&b, "*%s\n", table)
			f.drop(&b)
			b.WriteString("COMMIT\n")
		}
	}
	return b.String()
}
