// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/egret-proxy/egret/audit"
	"github.com/egret-proxy/egret/internal/escape"
	"github.com/egret-proxy/egret/proxy"
)

func printExplained(w io.Writer, x explained) {
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%-10s %s\n", name, escape.Terminal(value))
		}
	}
	row("verdict", x.Verdict)
	row("reason", string(x.Reason))
	if len(x.Nearest) == 0 { // else they say it, with their owners
		row("why", x.Why)
	}
	row("hint", x.Hint)
	row("minting", x.Minting)
	row("workload", x.Workload)
	row("policy", x.Policy)
	row("owner", x.Owner)
	for i, m := range x.Nearest {
		name := ""
		if i == 0 {
			name = "nearest"
		}
		_, _ = fmt.Fprintf(w, "%-10s %s (owner %s): %s\n", name, escape.Terminal(m.Policy), escape.Terminal(m.Owner), escape.Terminal(m.Why))
	}
}

func printWalk(w io.Writer, walk proxy.Walk) {
	row := func(name, mark, took, text string) {
		_, _ = fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%-11s %-7s %8s  %s", name, mark, took, escape.Terminal(text)), " "))
	}
	for _, s := range walk.Stages {
		if s.OK {
			row(s.Name, "ok", milliseconds(s.Took), s.Detail)
			continue
		}
		row(s.Name, "FAILED", milliseconds(s.Took), s.Detail)
		row("", "", "reason", string(s.Reason))
		row("", "", "hint", s.Hint)
	}
	_, _ = fmt.Fprintf(w, "recorded as %s\n", walk.ID)
}

// milliseconds prints a duration in the one unit that a column is read in.
func milliseconds(d time.Duration) string {
	if d < 50*time.Microsecond {
		return "<0.1ms"
	}
	return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
}

// printRecord tells a record in the order in which a person asks.
func printRecord(w io.Writer, r *audit.Record) {
	reason := r.Reason
	if r.Layer != "" {
		reason = r.Layer + "/" + r.Reason
	}
	who := r.Workload
	if r.Evidence != "" {
		who += " (" + r.Evidence + ")"
	}
	rows := [][2]string{
		{"id", r.ID}, {"when", r.Time.UTC().Format(time.RFC3339Nano)}, {"kind", r.Kind}, {"who", who}, {"what", strings.TrimSpace(r.Method + " " + r.Host + " " + r.PathTemplate)}, {"operation", r.Operation},
		{"verdict", r.Verdict}, {"reason", reason}, {"detail", r.Detail}, {"policy", r.Policy}, {"owner", ownerOf(r)},
		{"credential", strings.TrimSpace(r.Credential + " " + r.Fingerprint)}, {"status", statusText(r.Status)}, {"fault of", blame(r)},
		{"upstream", strings.TrimSpace(r.UpstreamIP + " " + r.UpstreamID)},
		{"time", fmt.Sprintf("total %s, of it identity %s, policy %s, credential %s, upstream %s", r.TTotal, r.TIdentity, r.TPolicy, r.TCredential, r.TUpstream)},
	}
	for _, row := range slices.DeleteFunc(rows, func(r [2]string) bool { return r[1] == "" }) {
		_, _ = fmt.Fprintf(w, "%-11s %s\n", row[0], escape.Terminal(row[1]))
	}
}

func statusText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%d %s", n, http.StatusText(n))
}

// ownerOf is who can be asked about the record: nobody where only egret's operator can help.
func ownerOf(r *audit.Record) string {
	if operators(r) {
		return ""
	}
	return r.Owner
}

// operators reports whether a refusal is due to egret's own state.
func operators(r *audit.Record) bool {
	return r.Layer == "target" && r.Reason == "no_certificate" || r.Layer == "policy" && r.Reason == "not_loaded"
}

// blame answers the question of 5 a.m.: is it the code or the access?
func blame(r *audit.Record) string {
	if operators(r) {
		return "egret itself: tell its operator; neither the code nor the access"
	}
	switch r.Layer {
	case "":
		if r.Status >= http.StatusBadRequest {
			return "the SaaS answered this itself: look at the request, access was granted"
		}
		return ""
	case "identity":
		return "access: the caller's identity"
	case "policy", "target":
		return "access: policy does not grant this"
	case "credential", "upstream-auth":
		return "access: the credential, not the code"
	case "upstream":
		return "the way to the SaaS, or the SaaS"
	case "admin":
		return "the call on the admin socket"
	case "limit":
		return "a limit of this node"
	}
	return "the client"
}
