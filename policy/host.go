// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

const (
	maxHost  = 253 // bytes of a name without its trailing dot (RFC 1035, 2.3.4)
	maxLabel = 63
)

// ParseHost returns the one canonical form of a host: a lower-case A-label name
// without trailing dot, or an IP literal without brackets. What a resolver or a URL
// parser could take for another host than we do is refused: user information, ports,
// zones, non-ASCII, underscores, and IPv4 addresses in any form but four decimals.
// ParseHost of its own result yields the same. The error is for logs.
func ParseHost(s string) (string, error) {
	host, bad := canonicalHost(s)
	if bad != "" {
		return "", fmt.Errorf("host %q %s", clip(s), bad)
	}
	return host, nil
}

// ParseHostPattern is ParseHost for names that people write: "*.example.com" stands
// for exactly one label, and internationalised names are converted to A-labels.
func ParseHostPattern(s string) (string, error) {
	name, wild := strings.CutPrefix(s, "*.")
	name, err := toASCII(name)
	if err != nil {
		return "", fmt.Errorf("host %q is not a valid internationalised name: %w", clip(s), err)
	}
	host, bad := canonicalHost(name)
	if bad == "" && wild && isIP(host) {
		bad = "must not put a wildcard before an IP address"
	}
	if bad != "" {
		return "", fmt.Errorf("host %q %s", clip(s), bad)
	}
	if wild {
		return "*." + host, nil
	}
	return host, nil
}

// toASCII converts U-labels and checks A-labels; other names are left to canonicalHost,
// since IDNA would refuse harmless ones ("r3---sn").
func toASCII(name string) (string, error) {
	if len(name) > 4*maxHost || isASCII(name) && !strings.Contains(strings.ToLower(name), "xn--") {
		return name, nil
	}
	if !utf8.ValidString(name) {
		return "", errors.New("is not UTF-8")
	}
	return idna.Lookup.ToASCII(name)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// canonicalHost returns the canonical form or what is wrong.
func canonicalHost(s string) (host, bad string) {
	switch {
	case s == "":
		return "", "must not be empty"
	case strings.HasPrefix(s, "["):
		if inner, ok := strings.CutSuffix(s[1:], "]"); ok {
			return canonicalIPv6(inner)
		}
		return "", "has no closing bracket"
	case strings.Contains(s, "@"):
		return "", "must not hold user information"
	case strings.Contains(s, ":"):
		return canonicalIPv6(s)
	}
	return canonicalName(strings.TrimSuffix(s, "."))
}

func canonicalIPv6(s string) (host, bad string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Is4():
		return "", "is not an IPv6 address, and a colon is allowed nowhere else"
	case a.Zone() != "":
		return "", "must not hold an IPv6 zone"
	case a.Is4In6():
		return "", "must not be an IPv4 address mapped into IPv6: write the IPv4 address"
	}
	return a.String(), ""
}

func canonicalName(s string) (host, bad string) {
	if len(s) > maxHost {
		return "", "must have at most 253 bytes"
	}
	last := ""
	for label := range strings.SplitSeq(s, ".") {
		if bad := labelProblem(label); bad != "" {
			return "", bad
		}
		last = label
	}
	if !numberLike(last) {
		return strings.ToLower(s), ""
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return a.String(), ""
	}
	return "", "ends in a number and is not an IPv4 address of four decimals"
}

func labelProblem(l string) string {
	switch {
	case l == "":
		return "must not hold an empty label"
	case len(l) > maxLabel:
		return "must not hold a label of more than 63 bytes"
	case l[0] == '-' || l[len(l)-1] == '-':
		return "must not hold a label that begins or ends with '-'"
	}
	for i := range len(l) {
		if !isLDH(l[i]) {
			return "may hold only ASCII letters, digits, '-' and '.'"
		}
	}
	return ""
}

func isLDH(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c) || c == '-'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// numberLike reports whether a last label makes resolvers read the whole name as an
// IPv4 address (WHATWG URL, "ends in a number": 1, 0177, 0x7f).
func numberLike(l string) bool {
	if h := strings.ToLower(l); strings.HasPrefix(h, "0x") {
		return strings.Trim(h[2:], "0123456789abcdef") == ""
	}
	return strings.Trim(l, "0123456789") == ""
}

// isIP tells an IP literal from a name. It relies on the canonical form, in which no
// name ends in a number, and so needs no parser and no allocation.
func isIP(host string) bool {
	if strings.Contains(host, ":") {
		return true
	}
	return host != "" && numberLike(host[strings.LastIndexByte(host, '.')+1:])
}

// clip bounds what an error quotes.
func clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
