// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package redirect makes, applies and removes the firewall rules that bring outgoing TCP
// connections of a network namespace to egret's transparent listeners, by REDIRECT or by
// TPROXY. It owns its chains (iptables) or one table (nftables), with TPROXY a routing rule
// and a routing table too, and touches nothing else. It knows no configuration and no proxy.
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

// Mode is how a captured connection gets to the listener.
type Mode string

// Modes. The empty one is Redirect.
const (
	// Redirect changes the destination (NAT), and the kernel remembers the original.
	Redirect Mode = "redirect"
	// TProxy changes nothing of the connection: marked packets are routed to loopback and
	// handed to a listener that may take any address (IP_TRANSPARENT).
	TProxy Mode = "tproxy"
)

// Modes lists the words for --mode.
func Modes() []Mode { return []Mode{Redirect, TProxy} }

// NoUID stands for no exclusion by user; a mark must stand in for it, or Apart.
const NoUID int64 = -1

// Ports of Istio's redirection: a listener there would be taken for it.
const (
	istioFirst = 15000
	istioLast  = 15100
)

// Options say what is captured. The zero value is not valid.
type Options struct {
	Mode         Mode
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
	errs := []error{o.checkMode(), o.checkPort(), o.checkOwn()}
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

func (o Options) checkMode() error {
	switch {
	case o.Mode != "" && !slices.Contains(Modes(), o.Mode):
		return fmt.Errorf("mode %q must be redirect or tproxy", o.Mode)
	case o.tproxy() && o.Mark&captureBit != 0:
		return fmt.Errorf("mark %#x must not have the bit %#x, by which captured packets are known: choose another upstream.mark", o.Mark, captureBit)
	}
	return nil
}

func (o Options) tproxy() bool { return o.Mode == TProxy }

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
