// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"strconv"
	"strings"

	"github.com/egret-proxy/egret/proxy"
)

// layers tells for each layer of a reason whose fault a refusal is.
func layers() []struct{ name, fault, meaning string } {
	return []struct{ name, fault, meaning string }{
		{"identity", "platform team, or the caller's SPIFFE set-up", "egret does not know who is calling"},
		{"target", "caller", "where the request wants to go is not clear, or not allowed to anyone"},
		{"policy", "policy's owner", "nobody has granted this"},
		{"credential", "credential's owner", "egret has no credential for the request; the caller's code is not at fault"},
		{"upstream-auth", "credential's owner", "the SaaS refused the credential that egret put in"},
		{"upstream", "SaaS or network", "the SaaS was not reached, or not verified"},
		{"limit", "caller, or the node's limits", "a bound was reached"},
		{"client", "caller's TLS set-up", "the connection ended before a request could be answered"},
	}
}

// writeReasons lists every reason that a refusal or a record can carry.
func writeReasons(_ Options, m *markdown) error {
	m.title("Reasons", "proxy/refusal.go")
	m.para("A refused request is answered with the status below, with `Proxy-Status` (RFC 9209), " +
		"`Egret-Decision: <layer>; reason=<code>; id=<id>`, and with a body of `application/problem+json` (RFC 9457) that says " +
		"what happened, what to do, and the same id. gRPC callers get a gRPC status in trailers, AWS's clients an error of their service's own form whose code is `egret/<layer>/<code>`. " +
		"A CONNECT that is refused carries `egret <layer>/<code> id=<id>` as its reason phrase. " +
		"What Go's HTTP server cannot read at all gets its bare 400, 417, 431 or 501; there is a record of it, without a way to tell its id. " +
		"The record of the request has the same `layer`, `reason` and `id`, and `egret why ID` explains it.")
	rows := make([][]string, 0, len(layers()))
	for _, l := range layers() {
		rows = append(rows, []string{mono(l.name), l.meaning, l.fault})
	}
	m.heading("Layers: whose turn it is")
	m.table([]string{"layer", "meaning", "whose turn"}, rows)
	for _, l := range layers() {
		m.heading(l.name)
		m.table([]string{"reason", "status", "what the application is told", "what to do"}, reasonRows(l.name))
	}
	m.para("Status `-`: the application gets no answer of egret's, only the record has the reason.")
	return nil
}

func reasonRows(layer string) [][]string {
	var rows [][]string
	for _, r := range proxy.Reasons() {
		if r.Reason.Layer() != layer {
			continue
		}
		status := "-"
		if r.Status != 0 {
			status = strconv.Itoa(r.Status)
		}
		rows = append(rows, []string{mono(r.Reason.Code()), status, prose(r.Title), prose(strings.TrimSuffix(r.Hint, "."))})
	}
	return rows
}
