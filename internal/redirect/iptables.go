// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"slices"
	"strings"
)

// Chains of egret, and where the built-in ones lead to them.
const (
	captureChain = "EGRET_CAPTURE"
	guardChain   = "EGRET_GUARD"
	outputChain  = "OUTPUT"
	captureHook  = "-p tcp -j " + captureChain
	guardHook    = "-j " + guardChain
)

// maxMultiport is how many ports one rule of iptables can name.
const maxMultiport = 15

// iptablesTables is the order in which tables are committed. The guard comes first, and
// goes last: between the two, connections are refused and not let out.
func iptablesTables() []string { return []string{"filter", "nat"} }

func iptablesRules(o Options) []Rule {
	var out []Rule
	for _, family := range []string{"ipv4", "ipv6"} {
		if family == "ipv6" && o.IPv4Only {
			continue
		}
		out = append(out, iptablesFamily(o, family)...)
	}
	return out
}

func iptablesFamily(o Options, family string) []Rule {
	var out []Rule
	chain := func(table, name string) func(reason, format string, args ...any) {
		return func(reason, format string, args ...any) {
			out = append(out, Rule{Family: family, Table: table, Chain: name, Rule: fmt.Sprintf(format, args...), Reason: reason})
		}
	}
	guard, capture := chain("filter", guardChain), chain("nat", captureChain)
	unreachable := map[string]string{"ipv4": "icmp-port-unreachable", "ipv6": "icmp6-port-unreachable"}[family]
	leaveAlone(o, family, guard)
	if o.captures(quicPort) {
		guard(becauseQUIC, "-p udp -m udp --dport %d -j REJECT --reject-with %s", quicPort, unreachable)
	}
	leavePorts(o, guard)
	for _, ports := range included(o) {
		guard(becauseGuard, "-p tcp%s -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset", ports)
	}
	chain("filter", outputChain)(becauseHook, guardHook)
	leaveAlone(o, family, capture)
	leavePorts(o, capture)
	for _, ports := range included(o) {
		capture(becauseCapture, "-p tcp%s -j REDIRECT --to-ports %d", ports, o.Port)
	}
	chain("nat", outputChain)(becauseHook, captureHook)
	return out
}

// included are the matches of what is captured.
func included(o Options) []string {
	if len(o.IncludePorts) == 0 {
		// In the filter table a redirected connection is on its way to egret already.
		return []string{fmt.Sprintf(" -m tcp ! --dport %d", o.Port)}
	}
	var out []string
	for ports := range slices.Chunk(o.IncludePorts, maxMultiport) {
		out = append(out, " -m multiport --dports "+joinPorts(ports, ","))
	}
	return out
}

func leaveAlone(o Options, family string, add func(reason, format string, args ...any)) {
	add(becauseLoopback, "-o lo -j RETURN")
	if o.UID != NoUID {
		add(becauseUID, "-m owner --uid-owner %d -j RETURN", o.UID)
	}
	if o.Mark != 0 {
		add(becauseMark, "-m mark --mark %s -j RETURN", markText(o.Mark))
	}
	for _, c := range o.ExcludeCIDRs {
		if c.Addr().Is4() == (family == "ipv4") {
			add(becauseCIDR, "-d %s -j RETURN", c)
		}
	}
}

func leavePorts(o Options, add func(reason, format string, args ...any)) {
	for ports := range slices.Chunk(o.ExcludePorts, maxMultiport) {
		add(becausePort, "-p tcp -m multiport --dports %s -j RETURN", joinPorts(ports, ","))
	}
	if len(o.IncludePorts) == 0 {
		add(becauseDNS, "-p tcp -m multiport --dports %s -j RETURN", joinPorts(dnsPorts(), ","))
	}
}

// hook is a rule of a built-in chain that leads to one of egret's.
type hook struct{ table, rule string }

// hooksOf are the hooks that the rules want.
func hooksOf(rules []Rule, family string) []hook {
	var out []hook
	for _, r := range rules {
		if r.Family == family && r.Chain == outputChain {
			out = append(out, hook{r.Table, r.Rule})
		}
	}
	return out
}

// iptablesScript is what iptables-restore --noflush is given: each table is replaced at
// once. A chain that is declared is emptied where it is there; the hooks are those that
// are missing, and come first, so that no other rule lets a connection out before.
func iptablesScript(rules []Rule, family string, missing []hook) string {
	var b strings.Builder
	for _, table := range iptablesTables() {
		own := captureChain
		if table == "filter" {
			own = guardChain
		}
		fmt.Fprintf(&b, "*%s\n:%s - [0:0]\n", table, own)
		for _, r := range rules {
			switch {
			case r.Family != family || r.Table != table:
			case r.Chain != outputChain:
				fmt.Fprintf(&b, "# %s\n-A %s %s\n", r.Reason, r.Chain, r.Rule)
			case slices.Contains(missing, hook{r.Table, r.Rule}):
				fmt.Fprintf(&b, "# %s\n-I %s 1 %s\n", r.Reason, r.Chain, r.Rule)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// found is what of egret's a table holds.
type found struct {
	chains []string
	hooks  []string // as often as they are there
}

// readSave finds egret's chains and hooks in the output of iptables-save.
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
		for _, c := range []string{captureChain, guardChain} {
			if strings.HasPrefix(line, ":"+c+" ") {
				f.chains = append(f.chains, c)
			}
		}
		if rule, ok := strings.CutPrefix(line, "-A "+outputChain+" "); ok && (rule == captureHook || rule == guardHook) {
			f.hooks = append(f.hooks, rule)
		}
		if len(f.chains)+len(f.hooks) > 0 {
			out[table] = f
		}
	}
	return out
}

// removal is what iptables-restore --noflush is given to take all of egret's out, "" where
// nothing is there.
func removal(save string) string {
	has := readSave(save)
	var b strings.Builder
	for _, table := range []string{"nat", "filter"} {
		f := has[table]
		if len(f.chains)+len(f.hooks) == 0 {
			continue
		}
		fmt.Fprintf(&b, "*%s\n", table)
		for _, h := range f.hooks {
			fmt.Fprintf(&b, "-D %s %s\n", outputChain, h)
		}
		for _, c := range f.chains {
			fmt.Fprintf(&b, "-F %s\n-X %s\n", c, c)
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// missing are the hooks that the rules want and the save does not have.
func missing(rules []Rule, family, save string) []hook {
	has := readSave(save)
	return slices.DeleteFunc(hooksOf(rules, family), func(h hook) bool { return slices.Contains(has[h.table].hooks, h.rule) })
}
