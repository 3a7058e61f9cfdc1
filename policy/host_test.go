// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"strings"
	"testing"
)

func TestMUST_T1_OneCanonicalHost(t *testing.T) {
	long := strings.Repeat("a.", 126) + "a" // 253 bytes
	for in, want := range map[string]string{
		"slack.com":           "slack.com",
		"SLACK.Com":           "slack.com",
		"slack.com.":          "slack.com",
		"xn--bcher-kva.de":    "xn--bcher-kva.de",
		"localhost":           "localhost",
		"r3---sn.example":     "r3---sn.example",
		"0x.example":          "0x.example",
		"1.2.3.4":             "1.2.3.4",
		"1.2.3.4.":            "1.2.3.4",
		"2001:DB8::1":         "2001:db8::1",
		"[2001:db8:0:0::1]":   "2001:db8::1",
		"1e3.example":         "1e3.example",
		long:                  long,
		long + ".":            long,
		"a" + label62 + ".de": "a" + label62 + ".de",
	} {
		if got, err := ParseHost(in); err != nil || got != want {
			t.Errorf("ParseHost(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

const label62 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

func TestMUST_T1_HostsOfTwoMeaningsAreRefused(t *testing.T) {
	for in, rule := range map[string]string{
		"":                              "must not be empty",
		".":                             "empty label",
		"slack.com..":                   "empty label",
		".slack.com":                    "empty label",
		"a..b":                          "empty label",
		"user@slack.com":                "user information",
		"user:pw@slack.com":             "user information",
		"slack.com:443":                 "colon",
		"bücher.de":                     "only ASCII",
		"slac\u212a.com":                "only ASCII", // KELVIN SIGN, which lower-cases to k
		"sl\u200back.com":               "only ASCII",
		"slack.com\x00.evil.com":        "only ASCII",
		"slack.com%00":                  "only ASCII",
		"slack.com/":                    "only ASCII",
		"slack com":                     "only ASCII",
		"sl_ack.com":                    "only ASCII",
		"-slack.com":                    "begins or ends with '-'",
		"slack-.com":                    "begins or ends with '-'",
		"aa" + label62 + ".de":          "63 bytes",
		strings.Repeat("a.", 127) + "a": "253 bytes",
		"[fe80::1%eth0]":                "zone",
		"fe80::1%25eth0":                "zone",
		"[::1":                          "closing bracket",
		"[1.2.3.4]":                     "not an IPv6 address",
		"[slack.com]":                   "not an IPv6 address",
		"::ffff:169.254.169.254":        "mapped",
		"0x7f.1":                        "ends in a number",
		"127.1":                         "ends in a number",
		"2130706433":                    "ends in a number",
		"0x7f000001":                    "ends in a number",
		"0X7F000001":                    "ends in a number",
		"127.0.0.0x1":                   "ends in a number",
		"0177.0.0.1":                    "ends in a number",
		"1.2.3.4.5":                     "ends in a number",
		"example.123":                   "ends in a number",
		"example.0x":                    "ends in a number",
		"256.1.1.1":                     "ends in a number",
		"*.slack.com":                   "only ASCII",
	} {
		got, err := ParseHost(in)
		if err == nil || !strings.Contains(err.Error(), rule) {
			t.Errorf("ParseHost(%q) = %q, %v; want an error with %q", in, got, err, rule)
		}
	}
}

func TestParseHostPattern(t *testing.T) {
	for in, want := range map[string]string{
		"*.Slack.com":      "*.slack.com",
		"bücher.de":        "xn--bcher-kva.de",
		"*.BÜCHER.de.":     "*.xn--bcher-kva.de",
		"xn--bcher-kva.de": "xn--bcher-kva.de",
		"slack。com":        "slack.com",
		"1.2.3.4":          "1.2.3.4",
		"*.1.2.3.4":        "",
		"*.*.slack.com":    "",
		"**.slack.com":     "",
		"a.*.slack.com":    "",
		"*":                "",
		"*.":               "",
		"xn--a":            "", // not the encoding of anything
		"XN--A.com":        "",
		"sl_äck.com":       "",
		"":                 "",
	} {
		got, err := ParseHostPattern(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseHostPattern(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestParseTarget(t *testing.T) {
	for in, want := range map[string]Target{
		"slack.com:443":         {"slack.com", 443},
		"SLACK.com.:8443":       {"slack.com", 8443},
		"[2001:db8::1]:443":     {"2001:db8::1", 443},
		"1.2.3.4:65535":         {"1.2.3.4", 65535},
		"slack.com":             {},
		"slack.com:":            {},
		"slack.com:0":           {},
		"slack.com:0443":        {},
		"slack.com:+443":        {},
		"slack.com:65536":       {},
		"slack.com:https":       {},
		"slack.com:443:443":     {},
		"2001:db8::1:443":       {},
		"[::1]443":              {},
		"u@slack.com:443":       {},
		":443":                  {},
		"":                      {},
		"https://slack.com:443": {},
	} {
		got, err := ParseTarget(in)
		if got != want || (err == nil) != (want != Target{}) {
			t.Errorf("ParseTarget(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
}

func TestParseErrorsQuoteABoundedInput(t *testing.T) {
	_, err := ParseTarget(strings.Repeat("x", 1<<20) + ":443")
	if err == nil || len(err.Error()) > 400 {
		t.Fatalf("error of %d bytes, want a short one", len(err.Error()))
	}
}

func TestTargetString(t *testing.T) {
	for _, s := range []string{"slack.com:443", "[2001:db8::1]:8443", "1.2.3.4:1"} {
		target, err := ParseTarget(s)
		if err != nil || target.String() != s {
			t.Errorf("ParseTarget(%q).String() = %q, %v", s, target, err)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"slack.com", "SLACK.com.", "[::1]", "127.1", "0x7f.1", "fe80::1%eth0", "a_b", "xn--a", "\u212a", "1.2.3.4."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			if h != "" {
				t.Fatalf("ParseHost(%q) gave %q with an error", s, h)
			}
			return
		}
		checkCanonical(t, h)
	})
}

func FuzzParseHostPattern(f *testing.F) {
	for _, s := range []string{"*.slack.com", "bücher.de", "slack。com", "xn--bcher-kva.de", "*.1.2.3.4", "ß.de", "0\xbc0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHostPattern(s)
		if err != nil {
			return
		}
		if again, err := ParseHostPattern(h); err != nil || again != h {
			t.Fatalf("ParseHostPattern(%q) = %q, and of that %q, %v", s, h, again, err)
		}
		checkCanonical(t, strings.TrimPrefix(h, "*."))
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, s := range []string{"slack.com:443", "[::1]:1", "a:0443", "::1:1", "1.2.3.4:65536"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		target, err := ParseTarget(s)
		if err != nil {
			return
		}
		checkCanonical(t, target.Host)
		if again, err := ParseTarget(target.String()); err != nil || again != target {
			t.Fatalf("ParseTarget(%q) = %v, and of that %v, %v", s, target, again, err)
		}
	})
}

// checkCanonical holds the properties of every host that ParseHost returns.
func checkCanonical(t *testing.T, h string) {
	t.Helper()
	if again, err := ParseHost(h); err != nil || again != h {
		t.Fatalf("canonical host %q parses to %q, %v", h, again, err)
	}
	if rest := strings.Trim(h, "abcdefghijklmnopqrstuvwxyz0123456789.-:"); rest != "" || len(h) > maxHost {
		t.Fatalf("canonical host %q holds %q", h, rest)
	}
	_, err := netip.ParseAddr(h)
	if (Target{Host: h}).IsIP() != (err == nil) {
		t.Fatalf("IsIP of %q does not agree with netip: %v", h, err)
	}
}
