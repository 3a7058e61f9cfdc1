// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package redirect makes, applies and removes the firewall rules that bring outgoing TCP
// connections of a network namespace to egret's transparent listeners. It owns two chains
// (iptables) or one table (nftables) and touches nothing else. It knows no configuration
// and no proxy.
package redirect

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// Backend is the program that rules are given to.
type Backend string

// Backends. Iptables is whichever of its two the system's alternatives name.
const (
	Auto           Backend = "auto" // where rules of egret are, else nft, else iptables
	Nft            Backend = "nft"
	Iptables       Backend = "iptables"
	IptablesLegacy Backend = "iptables-legacy"
	IptablesNft    Backend = "iptables-nft"
)

// Backends lists the words for --backend.
func Backends() []Backend { return []Backend{Auto, Nft, Iptables, IptablesLegacy, IptablesNft} }

// NoUID stands for no exclusion by user; a mark must stand in for it, or Apart.
const NoUID int64 = -1

// Ports of Istio's redirection: a listener there would be taken for it.
const (
	istioFirst = 15000
	istioLast  = 15100
)

// Options say what is captured. The zero value is not valid.
type Options struct {
	Port         uint16         // of egret's transparent listeners, on 127.0.0.1 and ::1
	UID          int64          // egret's user, whose connections are left alone; or NoUID
	Mark         uint32         // firewall mark of connections that are left alone; 0: none
	IncludePorts []uint16       // captured; empty: all but DNS
	ExcludePorts []uint16       // left alone
	ExcludeCIDRs []netip.Prefix // left alone
	IPv4Only     bool           // leave IPv6 alone
	// Apart: egret's own connections leave from another network namespace, so that there is
	// nobody here to leave alone. UID must be NoUID and Mark 0: every mark is one that a
	// program with CAP_NET_RAW could set.
	Apart bool
}

// Rule is one rule and why it is there.
type Rule struct {
	Family string `json:"family"` // ipv4, ipv6, or inet for both
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	Rule   string `json:"rule"` // as the program takes it, without the chain
	Reason string `json:"reason"`
}

// check reports every way in which the options make no sense, before any rule is made.
func (o Options) check() error {
	errs := []error{o.checkPort(), o.checkOwn()}
	for _, p := range o.IncludePorts {
		errs = append(errs, o.checkIncluded(p))
	}
	if slices.Contains(o.ExcludePorts, 0) {
		errs = append(errs, errors.New("port 0 is no port"))
	}
	for _, c := range o.ExcludeCIDRs {
		if !c.IsValid() || c != c.Masked() || c.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("cidr %q must be a range of addresses with no bits set beyond its length", c))
		}
	}
	return errors.Join(errs...)
}

func (o Options) checkPort() error {
	switch {
	case o.Port == 0:
		return errors.New("port must be from 1 to 65535, that of the transparent listeners")
	case o.Port >= istioFirst && o.Port <= istioLast:
		return fmt.Errorf("port %d must not be from %d to %d, which are Istio's", o.Port, istioFirst, istioLast)
	}
	return nil
}

// checkOwn makes sure that egret's own connections are left alone, and nobody else's.
func (o Options) checkOwn() error {
	switch {
	case o.UID == 0:
		return errors.New("uid 0 must not be left alone: every program of root would go round egret; run egret as a user of its own")
	case o.Apart && (o.UID != NoUID || o.Mark != 0):
		return errors.New("nobody must be left alone by uid or mark where egret's own connections leave from another namespace")
	case o.Apart:
	case o.UID == NoUID && o.Mark == 0:
		return errors.New("without a uid there must be a mark: egret's own connections would come back to it")
	case o.UID < NoUID || o.UID >= math.MaxUint32:
		return fmt.Errorf("uid %d is not a user id", o.UID)
	}
	return nil
}

func (o Options) checkIncluded(p uint16) error {
	switch {
	case slices.Contains(dnsPorts(), p):
		return fmt.Errorf("port %d must not be captured: DNS is left alone", p)
	case p == 0 || p == o.Port:
		return fmt.Errorf("port %d must not be captured", p)
	case slices.Contains(o.ExcludePorts, p):
		return fmt.Errorf("port %d must not be both captured and left alone", p)
	}
	return nil
}

// clean sorts what has no order and drops what is there twice, so that the same options
// always make the same rules.
func (o Options) clean() Options {
	o.IncludePorts = unique(o.IncludePorts, cmp.Compare[uint16])
	o.ExcludePorts = unique(o.ExcludePorts, cmp.Compare[uint16])
	o.ExcludeCIDRs = unique(o.ExcludeCIDRs, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return o
}

func unique[T comparable](list []T, compare func(a, b T) int) []T {
	return slices.Compact(slices.SortedFunc(slices.Values(list), compare))
}

// captures reports whether connections to the port are brought to egret.
func (o Options) captures(port uint16) bool {
	return !slices.Contains(o.ExcludePorts, port) && (len(o.IncludePorts) == 0 || slices.Contains(o.IncludePorts, port))
}

// Plan holds the rules of one backend, made and checked but not applied.
type Plan struct {
	backend Backend
	options Options
	rules   []Rule
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
	return p, nil
}

// Backend returns what the rules are for.
func (p *Plan) Backend() Backend { return p.backend }

// Rules returns them in order. The slice is the caller's.
func (p *Plan) Rules() []Rule { return slices.Clone(p.rules) }

// String is what the program would be given, with the reason of each rule.
func (p *Plan) String() string {
	if p.backend == Nft {
		return nftScript(p.rules)
	}
	text := "# for " + string(p.backend) + "-restore --noflush\n" + iptablesScript(p.rules, "ipv4", hooksOf(p.rules, "ipv4"))
	if !p.options.IPv4Only {
		text += "\n# for ip6tables-restore --noflush\n" + iptablesScript(p.rules, "ipv6", hooksOf(p.rules, "ipv6"))
	}
	return text
}
