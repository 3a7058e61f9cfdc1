// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"slices"
)

// Plan holds the rules of one backend, made and checked but not applied.
type Plan struct {
	backend Backend
	options Options
	rules   []Rule // of the firewall
	routes  []Rule // of the routing that TPROXY needs
}

// New makes the rules. The error names every option that is wrong.
func New(b Backend, o Options) (*Plan, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	p := &Plan{backend: b, options: o.clean()}
	switch b {
	case Nft:
		p.rules = nftRules(p.options)
	case Iptables, IptablesLegacy, IptablesNft:
		p.rules = iptablesRules(p.options)
	default:
		return nil, fmt.Errorf("backend %q has no rules", b)
	}
	if p.options.tproxy() {
		p.routes = routes(p.options)
	}
	return p, nil
}

// Backend returns what the rules are for.
func (p *Plan) Backend() Backend { return p.backend }

// Mode returns how connections get to the listener.
func (p *Plan) Mode() Mode {
	if p.options.tproxy() {
		return TProxy
	}
	return Redirect
}

// Rules returns them in order, those of routing first. The slice is the caller's.
func (p *Plan) Rules() []Rule { return slices.Concat(p.routes, p.rules) }

// families are those that are captured.
func (o Options) families() []string {
	if o.IPv4Only {
		return []string{familyV4}
	}
	return []string{familyV4, familyV6}
}

// The families, as rules and errors name them.
const (
	familyV4 = "ipv4"
	familyV6 = "ipv6"
)

// String is what the programs would be given, with the reason of each rule.
func (p *Plan) String() string {
	text := ""
	if len(p.routes) > 0 {
		for _, family := range p.options.families() {
			text += "# for ip " + ipFlag(family) + " -batch -\n" + routeScript(p.routes, family, false) + "\n"
		}
	}
	if p.backend == Nft {
		return text + nftScript(p.rules, p.options.Mode)
	}
	for i, family := range p.options.families() {
		if i > 0 {
			text += "\n"
		}
		text += "# for " + p.printed(family) + "-restore --noflush\n" + iptablesScript(p, family, "")
	}
	return text
}

// printed is the program that String names.
func (p *Plan) printed(family string) string {
	if family == familyV6 {
		return "ip6tables"
	}
	return string(p.backend)
}
