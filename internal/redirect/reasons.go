// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package redirect

import (
	"fmt"
	"strconv"
	"strings"
)

// Why rules are there; print shows it.
const (
	becauseLoopback = "loopback and this namespace's own addresses are left alone"
	becauseUID      = "egret's own connections, by their user"
	becauseMark     = "egret's own connections, by their mark"
	becauseCIDR     = "left alone by --exclude-cidr"
	becausePort     = "left alone by --exclude-port"
	becauseDNS      = "DNS is left alone"
	becauseCapture  = "everything else goes to egret"
	becauseQUIC     = "QUIC is refused, so that clients fall back to TCP, which egret sees"
	becauseGuard    = "a new connection that was not redirected must not leave"
	becauseHook     = "leads here"
	becauseFollow   = "a connection that was captured when it began stays captured"
	becauseOpen     = "a connection that was not captured when it began goes on"
	becauseRemember = "everything else is captured: the kernel remembers it for the connection"
	becausePassed   = "captured packets are on their way to egret"
	becauseMarked   = "and marks its packets, which are routed to loopback"
	becauseHanded   = "captured packets go to egret's listener, with their addresses as they are"
	becauseNobody   = "egret is not there: refused at once"
	becauseOnlyLo   = "a captured packet must not leave but by loopback"
	becauseRouted   = "captured packets are routed by a table of egret's"
	becauseLocal    = "in it every address is one of this machine"
	becauseIPv6     = "IPv6 is left alone by --ipv4-only"
)

func joinPorts(ports []uint16, sep string) string {
	text := make([]string, 0, len(ports))
	for _, p := range ports {
		text = append(text, strconv.Itoa(int(p)))
	}
	return strings.Join(text, sep)
}

// dnsPorts are those of DNS over TCP and TLS.
func dnsPorts() []uint16 { return []uint16{53, 853} }

func markText(mark uint32) string { return fmt.Sprintf("%#x", mark) }

const quicPort = 443
