// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"net/netip"
	"strings"
)

// The table of egret, and its chains.
const (
	nftTable   = "inet egret"
	nftCapture = "capture"
	nftGuard   = "guard"
)

func nftRules(o Options) []Rule {
	var out []Rule
	chain := func(name string) func(reason, format string, args ...any) {
		return func(reason, format string, args ...any) {
			out = append(out, Rule{Family: "inet", Table: "egret", Chain: name, Rule: fmt.Sprintf(format, args...), Reason: reason})
		}
	}
	guard, capture := chain(nftGuard), chain(nftCapture)
	nftLeaveAlone(o, guard)
	if o.captures(quicPort) {
		guard(becauseQUIC, "udp dport %d reject with icmpx type port-unreachable", quicPort)
	}
	nftLeavePorts(o, guard)
	guard(becauseGuard, "%s ct state new reject with tcp reset", nftIncluded(o))
	nftLeaveAlone(o, capture)
	nftLeavePorts(o, capture)
	capture(becauseCapture, "%s redirect to :%d", nftIncluded(o), o.Port)
	return out
}

func nftIncluded(o Options) string {
	if len(o.IncludePorts) == 0 {
		return fmt.Sprintf("tcp dport != %d", o.Port)
	}
	return fmt.Sprintf("tcp dport { %s }", joinPorts(o.IncludePorts, ", "))
}

func nftLeaveAlone(o Options, add func(reason, format string, args ...any)) {
	if o.IPv4Only {
		add(becauseIPv6, "meta nfproto ipv6 return")
	}
	add(becauseLoopback, `oifname "lo" return`)
	if o.UID != NoUID {
		add(becauseUID, "meta skuid %d return", o.UID)
	}
	if o.Mark != 0 {
		add(becauseMark, "meta mark %s return", markText(o.Mark))
	}
	for _, c := range o.ExcludeCIDRs {
		add(becauseCIDR, "%s daddr %s return", nftFamily(c), c)
	}
}

func nftFamily(p netip.Prefix) string {
	if p.Addr().Is4() {
		return "ip"
	}
	return "ip6"
}

func nftLeavePorts(o Options, add func(reason, format string, args ...any)) {
	if len(o.ExcludePorts) > 0 {
		add(becausePort, "tcp dport { %s } return", joinPorts(o.ExcludePorts, ", "))
	}
	if len(o.IncludePorts) == 0 {
		add(becauseDNS, "tcp dport { %s } return", joinPorts(dnsPorts(), ", "))
	}
}

// nftScript is one transaction: a table that is there is replaced. The reasons are the
// rules' comments, which `nft list` shows too.
func nftScript(rules []Rule) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\ntable %s {\n", strings.TrimSuffix(nftRemoval(), "\n"), nftTable)
	for _, c := range []struct{ name, hook string }{
		{nftGuard, "type filter hook output priority 0; policy accept;"},
		{nftCapture, "type nat hook output priority -100; policy accept;"},
	} {
		fmt.Fprintf(&b, "\tchain %s {\n\t\t%s\n", c.name, c.hook)
		for _, r := range rules {
			if r.Chain == c.name {
				fmt.Fprintf(&b, "\t\t%s comment \"%s\"\n", r.Rule, r.Reason)
			}
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// nftRemoval deletes the table, whether it is there or not.
func nftRemoval() string {
	return "add table " + nftTable + "\ndelete table " + nftTable + "\n"
}
