// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"fmt"
	"net/netip"
)

// AddressRules says which upstream addresses may be dialled (MUST T5). The zero value
// allows public addresses only.
type AddressRules struct {
	Deny  []netip.Prefix // besides the built-in classes: node, pod and service ranges
	NAT64 []netip.Prefix // prefixes whose embedded IPv4 address is checked (RFC 6052, /96 only)
}

// addressClass is a range that no public SaaS lives in.
type addressClass struct {
	name   string
	prefix netip.Prefix
}

// Built-in classes, most telling name first. Sources: IANA special-purpose registries
// (RFC 6890 and successors), cloud metadata addresses.
//
//nolint:gochecknoglobals // a constant table
var addressClasses = []addressClass{
	{"cloud metadata", netip.MustParsePrefix("169.254.169.254/32")},
	{"cloud metadata", netip.MustParsePrefix("169.254.170.0/24")},
	{"cloud metadata", netip.MustParsePrefix("fd00:ec2::/32")},
	{"this network", netip.MustParsePrefix("0.0.0.0/8")},
	{"loopback", netip.MustParsePrefix("127.0.0.0/8")},
	{"loopback", netip.MustParsePrefix("::1/128")},
	{"unspecified", netip.MustParsePrefix("::/128")},
	{"private", netip.MustParsePrefix("10.0.0.0/8")},
	{"private", netip.MustParsePrefix("172.16.0.0/12")},
	{"private", netip.MustParsePrefix("192.168.0.0/16")},
	{"carrier-grade NAT", netip.MustParsePrefix("100.64.0.0/10")},
	{"link-local", netip.MustParsePrefix("169.254.0.0/16")},
	{"link-local", netip.MustParsePrefix("fe80::/10")},
	{"site-local", netip.MustParsePrefix("fec0::/10")},
	{"unique local", netip.MustParsePrefix("fc00::/7")},
	{"IETF protocol", netip.MustParsePrefix("192.0.0.0/24")},
	{"documentation", netip.MustParsePrefix("192.0.2.0/24")},
	{"documentation", netip.MustParsePrefix("198.51.100.0/24")},
	{"documentation", netip.MustParsePrefix("203.0.113.0/24")},
	{"documentation", netip.MustParsePrefix("2001:db8::/32")},
	{"documentation", netip.MustParsePrefix("3fff::/20")},
	{"benchmarking", netip.MustParsePrefix("198.18.0.0/15")},
	{"6to4 relay", netip.MustParsePrefix("192.88.99.0/24")},
	{"multicast", netip.MustParsePrefix("224.0.0.0/4")},
	{"multicast", netip.MustParsePrefix("ff00::/8")},
	{"reserved", netip.MustParsePrefix("240.0.0.0/4")}, // with 255.255.255.255
	{"discard", netip.MustParsePrefix("100::/64")},
	{"NAT64", netip.MustParsePrefix("64:ff9b::/96")},
	{"NAT64 local", netip.MustParsePrefix("64:ff9b:1::/48")},
	{"6to4", netip.MustParsePrefix("2002::/16")},
	{"Teredo", netip.MustParsePrefix("2001::/32")},
	{"IPv4-compatible", netip.MustParsePrefix("::/96")},
	{"SIIT", netip.MustParsePrefix("::ffff:0:0:0/96")},
	{"segment routing", netip.MustParsePrefix("5f00::/16")},
}

// check returns nil where addr may be dialled. allow is the destination's own opt-in;
// it opens ranges of the built-in classes but never what the node denies, and never
// the cloud's metadata addresses.
func (r AddressRules) check(addr netip.Addr, allow []netip.Prefix) error {
	addr = addr.Unmap().WithZone("")
	if !addr.IsValid() {
		return fmt.Errorf("address is not valid")
	}
	if v4, ok := r.nat64(addr); ok {
		addr = v4
	}
	for _, p := range r.Deny {
		if p.Contains(addr) {
			return fmt.Errorf("address %s is in %s, which egress.denyCIDRs names", addr, p)
		}
	}
	class, found := classify(addr)
	if !found {
		return nil
	}
	if class.name != "cloud metadata" {
		for _, p := range allow {
			if p.Contains(addr) {
				return nil
			}
		}
	}
	return fmt.Errorf("address %s is %s (%s)", addr, class.name, class.prefix)
}

func classify(addr netip.Addr) (addressClass, bool) {
	for _, c := range addressClasses {
		if c.prefix.Contains(addr) {
			return c, true
		}
	}
	return addressClass{}, false
}

// nat64 decodes the IPv4 address of a configured /96 prefix (RFC 6052, 2.2).
func (r AddressRules) nat64(addr netip.Addr) (netip.Addr, bool) {
	for _, p := range r.NAT64 {
		if p.Bits() == 96 && p.Contains(addr) {
			b := addr.As16()
			return netip.AddrFrom4([4]byte(b[12:16])), true
		}
	}
	return netip.Addr{}, false
}
