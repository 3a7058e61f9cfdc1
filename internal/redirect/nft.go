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
	nftDivert  = "divert" // of TPROXY
	nftLeave   = "leave"  // of TPROXY
)

// nftAdd adds a rule to a chain.
type nftAdd func(reason, format string, args ...any)

func nftRules(o Options) []Rule {
	var out []Rule
	chain := func(name string) nftAdd {
		return func(reason, format string, args ...any) {
			out = append(out, Rule{Family: "inet", Table: "egret", Chain: name, Rule: fmt.Sprintf(format, args...), Reason: reason})
		}
	}
	nftGuardRules(o, chain(nftGuard))
	capture := chain(nftCapture)
	if !o.tproxy() {
		nftLeaveAlone(o, capture)
		nftLeavePorts(o, capture)
		capture(becauseCapture, "%s redirect to :%d", nftIncluded(o), o.Port)
		return out
	}
	nftMarkRules(o, capture)
	nftDivertRules(o, chain(nftDivert))
	chain(nftLeave)(becauseOnlyLo, `meta l4proto tcp %s oifname != "lo" drop`, nftMarked)
	return out
}

func nftGuardRules(o Options, guard nftAdd) {
	nftLeaveAlone(o, guard)
	if o.tproxy() {
		guard(becausePassed, "meta l4proto tcp %s return", nftMarked)
	}
	if o.captures(quicPort) {
		guard(becauseQUIC, "udp dport %d reject with icmpx type port-unreachable", quicPort)
	}
	nftLeavePorts(o, guard)
	guard(becauseGuard, "%s ct state new reject with tcp reset", nftIncluded(o))
}

// Matches and changes of the bit by which captured packets are known.
const (
	nftMarked   = "meta mark & 0x1000 == 0x1000"
	nftMark     = "meta mark set meta mark or 0x1000"
	nftFollows  = "ct mark & 0x1000 == 0x1000"
	nftRemember = "ct mark set ct mark or 0x1000"
	nftNotFirst = "tcp flags & (fin | syn | rst | ack) != syn"
)

// nftMarkRules choose by the first packet of a connection, and follow it by the kernel's
// memory: later ones may have no user, as those of a socket that has been closed.
func nftMarkRules(o Options, add nftAdd) {
	nftLoopback(o, add)
	add(becauseFollow, "%s %s %s return", nftNotFirst, nftFollows, nftMark)
	add(becauseOpen, "%s return", nftNotFirst)
	nftOwn(o, add)
	nftLeavePorts(o, add)
	add(becauseRemember, "%s %s %s", nftIncluded(o), nftRemember, nftMark)
}

func nftDivertRules(o Options, add nftAdd) {
	const captured = `iifname "lo" ` + nftMarked + " "
	add(becauseHanded, captured+"meta nfproto ipv4 meta l4proto tcp tproxy ip to 127.0.0.1:%d accept", o.Port)
	if !o.IPv4Only {
		add(becauseHanded, captured+"meta nfproto ipv6 meta l4proto tcp tproxy ip6 to [::1]:%d accept", o.Port)
	}
	add(becauseNobody, captured+"meta l4proto tcp reject with tcp reset")
}

func nftIncluded(o Options) string {
	switch {
	case len(o.IncludePorts) == 0 && o.tproxy():
		return "meta l4proto tcp"
	case len(o.IncludePorts) == 0:
		return fmt.Sprintf("tcp dport != %d", o.Port)
	}
	return fmt.Sprintf("tcp dport { %s }", joinPorts(o.IncludePorts, ", "))
}

func nftLeaveAlone(o Options, add nftAdd) {
	nftLoopback(o, add)
	nftOwn(o, add)
}

func nftLoopback(o Options, add nftAdd) {
	if o.IPv4Only {
		add(becauseIPv6, "meta nfproto ipv6 return")
	}
	add(becauseLoopback, `oifname "lo" return`)
}

// nftOwn leaves egret's own connections alone, and the ranges that are left out.
func nftOwn(o Options, add nftAdd) {
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

func nftLeavePorts(o Options, add nftAdd) {
	if len(o.ExcludePorts) > 0 {
		add(becausePort, "tcp dport { %s } return", joinPorts(o.ExcludePorts, ", "))
	}
	if len(o.IncludePorts) == 0 {
		add(becauseDNS, "tcp dport { %s } return", joinPorts(dnsPorts(), ", "))
	}
}

// nftScript is one transaction: a table that is there is replaced. The reasons are the
// rules' comments, which `nft list` shows too.
func nftScript(rules []Rule, m Mode) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\ntable %s {\n", strings.TrimSuffix(nftRemoval(), "\n"), nftTable)
	for _, c := range nftChains(m) {
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

// nftChain is a chain of the table, and where it hangs.
type nftChain struct{ name, hook string }

func nftChains(m Mode) []nftChain {
	guard := nftChain{nftGuard, "type filter hook output priority 0; policy accept;"}
	if m != TProxy {
		return []nftChain{guard, {nftCapture, "type nat hook output priority -100; policy accept;"}}
	}
	return []nftChain{
		guard,
		{nftCapture, "type route hook output priority -150; policy accept;"},
		{nftDivert, "type filter hook prerouting priority -150; policy accept;"},
		{nftLeave, "type filter hook postrouting priority 0; policy accept;"},
	}
}

// nftDiverts reports whether a ruleset holds egret's table as TPROXY has it.
func nftDiverts(dump string) bool {
	_, table, _ := strings.Cut(dump, "table "+nftTable+" {")
	table, _, _ = strings.Cut(table, "\n}")
	return strings.Contains(table, "chain "+nftDivert+" {")
}

// nftRemoval deletes the table, whether it is there or not.
func nftRemoval() string {
	return "add table " + nftTable + "\ndelete table " + nftTable + "\n"
}
