// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"slices"
	"strings"
)

// Chains of egret.
const (
	captureChain = "EGRET_CAPTURE"
	guardChain   = "EGRET_GUARD"
	divertChain  = "EGRET_DIVERT" // of TPROXY
	leaveChain   = "EGRET_LEAVE"  // of TPROXY
)

// maxMultiport is how many ports one rule of iptables can name.
const maxMultiport = 15

// jump is a rule of a built-in chain that leads to one of egret's.
type jump struct{ table, from, match, to string }

// rule is the jump as it is written, and as iptables-save shows it.
func (j jump) rule() string { return strings.TrimSpace(j.match + " -j " + j.to) }

// jumps are those of a mode.
func jumps(m Mode) []jump {
	guard := jump{"filter", "OUTPUT", "", guardChain}
	if m != TProxy {
		return []jump{guard, {"nat", "OUTPUT", "-p tcp", captureChain}}
	}
	return []jump{
		guard,
		{"mangle", "OUTPUT", "-p tcp", captureChain},
		{"mangle", "PREROUTING", "-i lo -p tcp", divertChain},
		{"mangle", "POSTROUTING", "-p tcp", leaveChain},
	}
}

// everyJump are those of all modes.
func everyJump() []jump { return unite(jumps(Redirect), jumps(TProxy)) }

func unite(a, b []jump) []jump {
	return append(slices.Clone(a), slices.DeleteFunc(slices.Clone(b), func(j jump) bool { return slices.Contains(a, j) })...)
}

// iptablesTables is the order in which tables are committed. The guard comes first, and
// goes last: between the two, connections are refused and not let out.
func iptablesTables() []string { return []string{"filter", "mangle", "nat"} }

func iptablesRules(o Options) []Rule {
	var out []Rule
	for _, family := range o.families() {
		out = append(out, iptablesFamily(o, family)...)
	}
	return out
}

// add adds a rule to a chain.
type add func(reason, format string, args ...any)

func iptablesFamily(o Options, family string) []Rule {
	var out []Rule
	for _, j := range jumps(o.Mode) {
		chain := func(name string) add {
			return func(reason, format string, args ...any) {
				out = append(out, Rule{Family: family, Table: j.table, Chain: name, Rule: fmt.Sprintf(format, args...), Reason: reason})
			}
		}
		fill(o, family, j, chain(j.to))
		chain(j.from)(becauseHook, "%s", j.rule())
	}
	return out
}

// fill makes the rules of the chain that a jump leads to.
func fill(o Options, family string, j jump, add add) {
	switch {
	case j.to == guardChain:
		guardRules(o, family, add)
	case j.to == divertChain:
		add(becauseHanded, "-p tcp -m mark --mark %s -j TPROXY --on-port %d --on-ip %s --tproxy-mark 0x0/0x0",
			bitText(), o.Port, map[string]string{familyV4: "127.0.0.1", familyV6: "::1"}[family])
	case j.to == leaveChain:
		add(becauseOnlyLo, "! -o lo -m mark --mark %s -j DROP", bitText())
	case o.tproxy():
		markRules(o, family, add)
	default:
		leaveAlone(o, family, add)
		leavePorts(o, add)
		for _, ports := range included(o) {
			add(becauseCapture, "-p tcp%s -j REDIRECT --to-ports %d", ports, o.Port)
		}
	}
}

func guardRules(o Options, family string, add add) {
	unreachable := map[string]string{familyV4: "icmp-port-unreachable", familyV6: "icmp6-port-unreachable"}[family]
	leaveAlone(o, family, add)
	if o.tproxy() {
		add(becausePassed, "-p tcp -m mark --mark %s -j RETURN", bitText())
	}
	if o.captures(quicPort) {
		add(becauseQUIC, "-p udp -m udp --dport %d -j REJECT --reject-with %s", quicPort, unreachable)
	}
	leavePorts(o, add)
	for _, ports := range included(o) {
		add(becauseGuard, "-p tcp%s -m conntrack --ctstate NEW -j REJECT --reject-with tcp-reset", ports)
	}
}

// markRules are nftMarkRules of iptables.
func markRules(o Options, family string, add add) {
	const notFirst = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN"
	leaveLoopback(add)
	add(becauseFollow, notFirst+" -m connmark --mark %s -j MARK --set-xmark %[1]s", bitText())
	add(becauseOpen, notFirst+" -j RETURN")
	leaveOwn(o, family, add)
	leavePorts(o, add)
	for _, ports := range included(o) {
		add(becauseRemember, "-p tcp%s -j CONNMARK --set-xmark %s", ports, bitText())
		add(becauseMarked, "-p tcp%s -j MARK --set-xmark %s", ports, bitText())
	}
}

// included are the matches of what is captured.
func included(o Options) []string {
	switch {
	case len(o.IncludePorts) == 0 && o.tproxy():
		return []string{""}
	case len(o.IncludePorts) == 0:
		// In the filter table a redirected connection is on its way to egret already.
		return []string{fmt.Sprintf(" -m tcp ! --dport %d", o.Port)}
	}
	var out []string
	for ports := range slices.Chunk(o.IncludePorts, maxMultiport) {
		out = append(out, " -m multiport --dports "+joinPorts(ports, ","))
	}
	return out
}

func leaveAlone(o Options, family string, add add) {
	leaveLoopback(add)
	leaveOwn(o, family, add)
}

func leaveLoopback(add add) { add(becauseLoopback, "-o lo -j RETURN") }

// leaveOwn leaves egret's own connections alone, and the ranges that are left out.
func leaveOwn(o Options, family string, add add) {
	if o.UID != NoUID {
		add(becauseUID, "-m owner --uid-owner %d -j RETURN", o.UID)
	}
	if o.Mark != 0 {
		add(becauseMark, "-m mark --mark %s -j RETURN", markText(o.Mark))
	}
	for _, c := range o.ExcludeCIDRs {
		if c.Addr().Is4() == (family == familyV4) {
			add(becauseCIDR, "-d %s -j RETURN", c)
		}
	}
}

func leavePorts(o Options, add add) {
	for ports := range slices.Chunk(o.ExcludePorts, maxMultiport) {
		add(becausePort, "-p tcp -m multiport --dports %s -j RETURN", joinPorts(ports, ","))
	}
	if len(o.IncludePorts) == 0 {
		add(becauseDNS, "-p tcp -m multiport --dports %s -j RETURN", joinPorts(dnsPorts(), ","))
	}
}
