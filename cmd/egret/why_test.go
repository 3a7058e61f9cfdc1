// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/audit"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ raw, target, path, query string }{
		{"https://slack.com", "slack.com:443", "/", ""},
		{"https://Slack.COM/api/x?a=1#f", "slack.com:443", "/api/x", "a=1"},
		{"https://slack.com:8443/", "slack.com:8443", "/", ""},
		{"https://slack.com?x=/y", "slack.com:443", "/", "x=/y"},
		{"https://slack.com/a%2fb/../c", "slack.com:443", "/a%2fb/../c", ""},
		{"https://slack.com//a;b", "slack.com:443", "//a;b", ""},
	} {
		var o whyOptions
		r, query, err := o.parseURL("get", tc.raw)
		if err != nil || r.Method != "get" || r.Target.String() != tc.target || r.Path != tc.path || query != tc.query {
			t.Errorf("%s: %+v, query %q, %v", tc.raw, r, query, err)
		}
	}
	var usage usageError
	for _, raw := range []string{"", "slack.com", "http://slack.com/", "https://", "https://u:p@slack.com/", "https://slack.com:x/", "https://[::1/", "ftp://x/"} {
		if _, _, err := new(whyOptions).parseURL("GET", raw); !errors.As(err, &usage) {
			t.Errorf("%q: %v", raw, err)
		}
	}
	if _, _, err := (&whyOptions{at: "tomorrow"}).parseURL("GET", "https://slack.com/"); !errors.As(err, &usage) {
		t.Errorf("--at: %v", err)
	}
}

func TestWithoutSecrets(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://slack.com/a?token=hunter2#x": "https://slack.com/a",
		"https://u:hunter2@slack.com/a":       "https://…@slack.com/a",
		"https://u:hunter2@x@slack.com/":      "https://…@slack.com/",
		"u:hunter2@slack.com":                 "…@slack.com",
		"http://u:hunter2@slack.com:x/":       "http://…@slack.com:x/",
		"https://u:x?hunter2@slack.com/":      "https://…@slack.com/",
	} {
		if got := withoutSecrets(raw); got != want {
			t.Errorf("%s: %s", raw, got)
		}
	}
}

// FuzzParseURL: what policy is asked about is what was written, byte for byte.
func FuzzParseURL(f *testing.F) {
	for _, s := range []string{"https://slack.com/a?b#c", "https://slack.com?x=/y", "https://slack.com/%2e%2e/", "https://slack.com#/x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		r, _, err := new(whyOptions).parseURL("GET", raw)
		if err != nil {
			return
		}
		if !strings.HasPrefix(r.Path, "/") || strings.ContainsAny(r.Path, "?#") || r.Path != "/" && !strings.Contains(raw, r.Path) {
			t.Errorf("%q became path %q", raw, r.Path)
		}
	})
}

func TestBlameAnswersWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	for want, r := range map[string]audit.Record{
		"": {Status: 200},
		"the SaaS answered this itself: look at the request, access was granted": {Status: 404},
		"access: the caller's identity":                                          {Layer: "identity", Status: 407},
		"access: policy does not grant this":                                     {Layer: "policy", Status: 403},
		"access: the credential, not the code":                                   {Layer: "upstream-auth", Status: 401},
		"the way to the SaaS, or the SaaS":                                       {Layer: "upstream", Status: 502},
		"egret itself: tell its operator; neither the code nor the access":       {Layer: "target", Reason: "no_certificate"},
		"the call on the admin socket":                                           {Layer: "admin", Status: 404},
		"a limit of this node":                                                   {Layer: "limit", Status: 431},
		"the client":                                                             {Layer: "client"},
	} {
		if got := blame(&r); got != want {
			t.Errorf("%+v: %q, want %q", r, got, want)
		}
	}
}

// A record of what only the operator can mend sends nobody to the workload's owner.
func TestRecordOfTheOperatorsFaultNamesNoOwner(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	r := audit.Record{ID: "k7", Kind: audit.KindHandshake, Verdict: "deny", Layer: "target", Reason: "no_certificate", Owner: "qa@acme.example"}
	printRecord(&out, &r)
	if text := out.String(); strings.Contains(text, "qa@") || !strings.Contains(text, "fault of    egret itself") {
		t.Error(text)
	}
	out.Reset()
	r.Reason = "unlisted_host"
	if printRecord(&out, &r); !strings.Contains(out.String(), "qa@acme.example") {
		t.Error(out.String())
	}
}

func TestWords(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		count(1, "fault"): "1 fault", count(0, "fault"): "0 faults", count(2, "policy"): "2 policies",
		milliseconds(10 * time.Microsecond): "<0.1ms", milliseconds(1500 * time.Microsecond): "1.5ms", milliseconds(2 * time.Second): "2000.0ms",
		statusText(0): "", statusText(404): "404 Not Found",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
