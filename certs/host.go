// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// checkHost returns ErrInvalidHost unless host is in the canonical form that package
// policy uses: lower-case A-labels, no trailing dot, no wildcard, no IP literal.
func checkHost(host string) error {
	if why := hostFault(host); why != "" {
		return fmt.Errorf("%w: %q: %s", ErrInvalidHost, host, why)
	}
	return nil
}

// hostFault says what is wrong with a host name; "" is nothing.
func hostFault(host string) string {
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return "IP addresses are excluded by the CA"
	}
	if host == "" || len(host) > 253 {
		return "a name has 1 to 253 characters"
	}
	last := ""
	for label := range strings.SplitSeq(host, ".") {
		if why := labelFault(label); why != "" {
			return why
		}
		last = label
	}
	if strings.HasPrefix(last, "0x") || strings.Trim(last, "0123456789") == "" {
		return "the last label is a number, which some clients read as an IPv4 address"
	}
	return ""
}

func labelFault(label string) string {
	if label == "" || len(label) > 63 {
		return "a label has 1 to 63 characters (write the name without a leading or trailing dot)"
	}
	if label[0] == '-' || label[len(label)-1] == '-' {
		return "a label neither begins nor ends with a hyphen"
	}
	for _, c := range []byte(label) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return "only a-z, 0-9, - and _ (write lower case, and international names as xn-- labels)"
		}
	}
	return ""
}

// constraintOf turns a destination's host into the DNS name constraint that covers
// it. RFC 5280 §4.2.1.10 knows subtrees only: the constraint "slack.com" permits
// slack.com and every name below it, so "*.slack.com" and "slack.com" yield the same.
// That a leaf is made for exactly the hosts of policy is held by Authority.
func constraintOf(host string) (string, error) {
	name := strings.TrimPrefix(host, "*.")
	if err := checkHost(name); err != nil {
		return "", err
	}
	if suffix, icann := publicsuffix.PublicSuffix(name); icann && suffix == name {
		return "", fmt.Errorf("%w: %q: a public suffix would permit everybody's names below it", ErrInvalidHost, host)
	}
	return name, nil
}

// constraintsOf returns the constraints of hosts without repetition, in order, or all
// faults at once.
func constraintsOf(hosts []string) ([]string, error) {
	var names []string
	var faults []error
	seen := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		name, err := constraintOf(h)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names, errors.Join(faults...)
}

// parents yields host and the names above it, nearest first: the constraints that
// would permit it.
func parents(host string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			if !yield(host) {
				return
			}
			_, rest, ok := strings.Cut(host, ".")
			if !ok {
				return
			}
			host = rest
		}
	}
}

// covered reports whether one of the constraints permits the name.
func covered(constraints []string, name string) bool {
	for p := range parents(name) {
		for _, c := range constraints {
			if c == p {
				return true
			}
		}
	}
	return false
}

// CheckHosts returns one fault for each host of policy that no intermediate of the
// issuer may name, each with the command that makes one (MUST K2). A host "*.x" needs
// an intermediate that permits x.
func CheckHosts(issuer Issuer, hosts []string) error {
	var faults []error
	for _, h := range hosts {
		if issuer.Permits(strings.TrimPrefix(h, "*.")) {
			continue
		}
		faults = append(faults, fmt.Errorf("%w: %q (make one with: egret ca issue --root DIR --host %q --out DIR)", ErrNotPermitted, h, h))
	}
	return errors.Join(faults...)
}
