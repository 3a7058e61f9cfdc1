// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/egret-proxy/egret/policy"
	"github.com/egret-proxy/egret/policy/operation"
	"github.com/egret-proxy/egret/proxy"
)

// parseURL reads METHOD and URL as a policy question. The method stays as it is written:
// methods are case-sensitive (RFC 9110, 9.1), to egret and to who is asked.
func (o *whyOptions) parseURL(method, raw string) (policy.Request, string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return policy.Request{}, "", usagef("url %q: must be https://host/path, without user and password", withoutSecrets(raw))
	}
	host := u.Host
	if u.Port() == "" {
		host += ":443"
	}
	t, err := policy.ParseTarget(host)
	if err != nil {
		return policy.Request{}, "", usagef("url %q: %w", withoutSecrets(raw), err)
	}
	at := time.Now()
	if o.at != "" {
		if at, err = time.Parse(time.RFC3339, o.at); err != nil {
			return policy.Request{}, "", usagef("--at %q: must be like 2026-12-01T05:10:00Z", o.at)
		}
	}
	// The path as it was written, not as net/url would write it: that is what is judged.
	path := "/"
	_, rest, _ := strings.Cut(raw, "://")
	rest, _, _ = strings.Cut(rest, "#")
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		path = rest[i:]
	}
	ask := policy.Request{Target: t, Method: method, Path: path, At: at, Operations: o.operations, Read: len(o.operations) > 0}
	return ask, u.RawQuery, nil
}

// withoutSecrets is a URL as a message may show it: without user information and query.
func withoutSecrets(raw string) string {
	start := 0
	if i := strings.Index(raw, "://"); i >= 0 {
		start = i + len("://")
	}
	if i := strings.LastIndexByte(raw, '@'); i >= start {
		raw = raw[:start] + "…" + raw[i:]
	}
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	return raw
}

// judge explains what the proxy does with a request: what policy decides, and what is
// refused whatever policy says.
func judge(p *policy.Policy, ask policy.Request, query string) policy.Explanation {
	x := p.Explain(ask)
	if e := x.Decision.Extract; e != nil && !ask.Read { // some operations stand in method, path and query
		r := operation.Request{Method: ask.Method, Host: ask.Target.Host, Path: ask.Path, Query: query}
		if ops, err := e.Extract(&r); err == nil {
			ask.Operations, ask.Read = ops, true
			x = p.Explain(ask)
		}
	}
	if x.Admission.Verdict != policy.Allow { // refused, or tunnelled unread, before any request is read
		return x
	}
	reason, why := proxy.PreviewMethod(ask.Method)
	if d := x.Decision; reason == "" && d.Verdict == policy.Allow && !d.Observed {
		reason, why = proxy.PreviewQuery(query, d.Rule)
	}
	if reason != "" {
		x.Decision = policy.Decision{Verdict: policy.Deny, Reason: reason, Workload: x.Decision.Workload}
		x.Why, x.Nearest = why, nil
	}
	return x
}

// hint helps who has asked for less, or in another way, than can be answered.
func hint(x policy.Explanation, method string) string {
	if x.Decision.Extract != nil {
		return "say what the request does: --operation " + example(x.Decision.Extract)
	}
	return methodHint(method, x.Decision.Reason)
}

// example is an operation as an extractor writes it.
func example(e *operation.Extractor) string {
	switch e.Kind() {
	case operation.AWS:
		return "sts:AssumeRole"
	case operation.S3:
		return "s3:GetObject"
	case operation.GraphQL:
		return "query:viewer"
	case operation.JSONRPC:
		return "tools/call:NAME"
	}
	return "NAME"
}

// methodHint helps who has written a method as no server takes it.
func methodHint(method string, reason policy.Reason) string {
	upper := strings.ToUpper(method)
	if reason != policy.ReasonMethodNotAllowed || upper == method {
		return ""
	}
	return fmt.Sprintf("methods are case-sensitive: did you mean %s?", upper)
}
