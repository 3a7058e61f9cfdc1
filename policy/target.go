// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// ParseTarget reads the authority of a CONNECT request: host:port with an explicit
// decimal port, IPv6 in brackets. The error is for logs.
func ParseTarget(authority string) (Target, error) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 {
		return Target{}, fmt.Errorf("authority %q has no port: must be host:port", clip(authority))
	}
	port, err := parsePort(authority[i+1:])
	if err != nil {
		return Target{}, fmt.Errorf("authority %q: %w", clip(authority), err)
	}
	host := authority[:i]
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return Target{}, fmt.Errorf("authority %q must have its IPv6 address in brackets", clip(authority))
	}
	if host, err = ParseHost(host); err != nil {
		return Target{}, err
	}
	return Target{Host: host, Port: port}, nil
}

// parsePort takes one spelling only: no sign, no leading zero, no service name.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || s[0] == '0' {
		return 0, fmt.Errorf("port %q must be a decimal number from 1 to 65535", clip(s))
	}
	return uint16(n), nil
}

// String returns host:port, with an IPv6 address in brackets.
func (t Target) String() string {
	return net.JoinHostPort(t.Host, strconv.Itoa(int(t.Port)))
}

// IsIP reports whether the host is an IP literal.
func (t Target) IsIP() bool { return isIP(t.Host) }
