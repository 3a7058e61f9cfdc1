// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMUST_K1_LeafShortLived(t *testing.T) {
	ca := newIntermediate(t, newRoot(t, "slack.com"), 90*24*time.Hour, "slack.com")
	for _, ttl := range []time.Duration{0, -time.Hour, time.Minute, 24 * time.Hour, 1000 * time.Hour} {
		der, err := ca.leaf("slack.com", newKey(t).Public(), ttl)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if d := leaf.NotAfter.Sub(leaf.NotBefore); d > 24*time.Hour {
			t.Errorf("ttl %s: the leaf lives %s", ttl, d)
		}
		if d := time.Since(leaf.NotBefore); d > 5*time.Minute {
			t.Errorf("ttl %s: backdated by %s", ttl, d)
		}
		if got := fmt.Sprint(leaf.DNSNames, leaf.Subject.String(), leaf.IsCA, leaf.ExtKeyUsage); got != "[slack.com]false [serverAuth]" {
			t.Errorf("names, subject, CA, usage: %s", got)
		}
	}
}

func TestMUST_K2_ConstraintsHold(t *testing.T) {
	root := newRoot(t, "slack.com", "github.com")
	ca := newIntermediate(t, root, 0, "slack.com")
	evil := newIntermediate(t, root, 0, "slack.com") // its key is the attacker's
	tests := []struct {
		name, host string
		chain      [][]byte
		ok         bool
	}{
		{"listed host", "slack.com", forge(t, ca, []string{"slack.com"}, nil), true},
		{"other host", "evil.com", forge(t, ca, []string{"evil.com"}, nil), false},
		{"host of the root, not of the intermediate", "github.com", forge(t, ca, []string{"github.com"}, nil), false},
		{"suffix that is no label", "notslack.com", forge(t, ca, []string{"notslack.com"}, nil), false},
		{"wildcard above", "a.com", forge(t, ca, []string{"*.com"}, nil), false},
		{"one good and one bad name", "slack.com", forge(t, ca, []string{"slack.com", "evil.com"}, nil), false},
		{"IPv4", "10.0.0.1", forge(t, ca, nil, []net.IP{net.IPv4(10, 0, 0, 1)}), false},
		{"IPv6", "::1", forge(t, ca, nil, []net.IP{net.IPv6loopback}), false},
		{"good name with an IP", "slack.com", forge(t, ca, []string{"slack.com"}, []net.IP{net.IPv4(10, 0, 0, 1)}), false},
		{"a CA below the intermediate", "slack.com", subCA(t, evil), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := verify(root.cert, tt.host, tt.chain); (err == nil) != tt.ok {
				t.Errorf("verify: %v, want ok=%v", err, tt.ok)
			}
		})
	}
}

// subCA has a stolen intermediate sign another CA, and that one a leaf.
func subCA(t *testing.T, ca *CA) [][]byte {
	tmpl := caTemplate("sub", "", []string{"slack.com"})
	tmpl.NotAfter = time.Now().Add(time.Hour)
	sub, err := signCA(tmpl, ca)
	if err != nil {
		t.Fatal(err)
	}
	return append(forge(t, sub, []string{"slack.com"}, nil), ca.cert.Raw)
}

func TestMUST_K2_IntermediateShape(t *testing.T) {
	root := newRoot(t, "slack.com")
	ca := newIntermediate(t, root, 0, "*.slack.com", "api.slack.com")
	if err := checkIntermediate(ca.cert); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(ca.cert.PermittedDNSDomains, ca.cert.MaxPathLen, ca.cert.ExtKeyUsage); got != "[slack.com api.slack.com] 0 [serverAuth]" {
		t.Errorf("names, path length, usage: %s", got)
	}
	if d := time.Until(ca.cert.NotAfter); d > 24*time.Hour || d < 23*time.Hour {
		t.Errorf("the default life is %s", d)
	}
	if got := fmt.Sprint(root.cert.PermittedDNSDomains, root.cert.PermittedDNSDomainsCritical, root.cert.MaxPathLen); got != "[slack.com] true 1" {
		t.Errorf("root: names, critical, path length: %s", got)
	}
	other := newRoot(t, "slack.com")
	if root.cert.SerialNumber.BitLen() < 64 || root.cert.SerialNumber.Cmp(other.cert.SerialNumber) == 0 || bytes.Equal(root.cert.RawSubject, other.cert.RawSubject) {
		t.Error("two roots share a serial number or a name")
	}
}

func TestMUST_K2_NamesBounded(t *testing.T) {
	root := newRoot(t, "slack.com")
	hosts := make([]string, MaxNames+1)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d.slack.com", i)
	}
	if _, err := root.Intermediate(IntermediateOptions{Hosts: hosts[:MaxNames]}); err != nil {
		t.Error(err)
	}
	if _, err := root.Intermediate(IntermediateOptions{Hosts: hosts}); err == nil || !strings.Contains(err.Error(), "1 to 100 names, got 101") {
		t.Errorf("101 names: %v", err)
	}
}

func TestCAOptionFaults(t *testing.T) {
	root := newRoot(t, "slack.com")
	inter := func(opt IntermediateOptions) error { _, err := root.Intermediate(opt); return err }
	rootErr := func(opt RootOptions) error { _, err := NewRoot(opt); return err }
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"no domain", rootErr(RootOptions{}), "a root needs 1 to 100 domains, got 0"},
		{"public suffix", rootErr(RootOptions{Domains: []string{"com"}}), "a public suffix would permit"},
		{"root too long", rootErr(RootOptions{Domains: []string{"a.com"}, TTL: 10 * MaxRootTTL}), "is not within"},
		{"no host", inter(IntermediateOptions{}), "1 to 100 names, got 0"},
		{"outside the root", inter(IntermediateOptions{Hosts: []string{"evil.com"}}), `"evil.com" is outside the root's domains ["slack.com"]`},
		{"too long", inter(IntermediateOptions{Hosts: []string{"slack.com"}, TTL: MaxIntermediateTTL + 1}), "is not within"},
		{"negative", inter(IntermediateOptions{Hosts: []string{"slack.com"}, TTL: -1}), "is not within"},
		{"address", inter(IntermediateOptions{Hosts: []string{"10.0.0.1"}}), "IP addresses are excluded"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.err == nil || !strings.Contains(tt.err.Error(), tt.want) {
				t.Errorf("got %v, want %q", tt.err, tt.want)
			}
		})
	}
}

func TestIntermediateEndsWithRoot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, err := NewRoot(RootOptions{Domains: []string{"slack.com"}, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ca := newIntermediate(t, root, 24*time.Hour, "slack.com")
		if !ca.cert.NotAfter.Equal(root.cert.NotAfter) {
			t.Errorf("it ends at %s, the root at %s", ca.cert.NotAfter, root.cert.NotAfter)
		}
		time.Sleep(2 * time.Hour)
		if _, err := root.Intermediate(IntermediateOptions{Hosts: []string{"slack.com"}}); err == nil || !strings.Contains(err.Error(), "egret ca rotate") {
			t.Errorf("an ended root signs: %v", err)
		}
		if _, err := ca.leaf("slack.com", newKey(t).Public(), time.Hour); !errors.Is(err, ErrExpired) {
			t.Errorf("an ended intermediate signs: %v", err)
		}
	})
}

func TestIsOurs(t *testing.T) {
	root := newRoot(t, "slack.com")
	ca := newIntermediate(t, root, 0, "slack.com")
	foreign := foreignCA(t)
	for name, c := range map[string]*x509.Certificate{"root": root.cert, "intermediate": ca.cert} {
		if !IsOurs(c) {
			t.Errorf("the %s is not recognised", name)
		}
	}
	if IsOurs(foreign.cert) {
		t.Error("a foreign CA is taken for ours")
	}
	if !IsOurs(foreign.cert, root.cert, foreign.cert) {
		t.Error("a known key is not recognised")
	}
}

// foreignCA is a company's own CA: no marker, no constraints.
func foreignCA(t testing.TB) *CA {
	t.Helper()
	tmpl := caTemplate("foreign", "Corp", nil)
	tmpl.ExtraExtensions, tmpl.ExcludedIPRanges, tmpl.PermittedDNSDomainsCritical = nil, nil, false
	tmpl.NotAfter = time.Now().Add(time.Hour)
	ca, err := signCA(tmpl, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestCheckIntermediateFaults(t *testing.T) {
	root := newRoot(t, "slack.com")
	tests := []struct {
		name  string
		spoil func(*x509.Certificate)
		want  string
	}{
		{"path length", func(c *x509.Certificate) { c.MaxPathLenZero, c.MaxPathLen = false, 1 }, "no path length of 0"},
		{"usage", func(c *x509.Certificate) { c.ExtKeyUsage = append(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth) }, "not for TLS servers only"},
		{"any usage", func(c *x509.Certificate) { c.ExtKeyUsage = nil }, "not for TLS servers only"},
		{"no names", func(c *x509.Certificate) { c.PermittedDNSDomains = nil }, "no critical name constraints"},
		{"not critical", func(c *x509.Certificate) { c.PermittedDNSDomainsCritical = false }, "no critical name constraints"},
		{"no addresses excluded", func(c *x509.Certificate) { c.ExcludedIPRanges = nil }, "does not exclude all IP"},
		{"IPv6 not excluded", func(c *x509.Certificate) { c.ExcludedIPRanges = c.ExcludedIPRanges[:1] }, "does not exclude all IP"},
		{"no cert sign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, "may not sign"},
		{"leading dot", func(c *x509.Certificate) { c.PermittedDNSDomains = []string{".slack.com"} }, "leading dot"},
		{"too many", func(c *x509.Certificate) {
			c.PermittedDNSDomains = strings.Split(strings.Repeat("a.b,", 100)+"a.b", ",")
		}, "permits 101 names"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmpl := caTemplate("intermediate", "", []string{"slack.com"})
			tmpl.MaxPathLenZero, tmpl.ExtKeyUsage = true, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			tmpl.NotAfter = time.Now().Add(time.Hour)
			tt.spoil(tmpl)
			ca, err := signCA(tmpl, root)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkIntermediate(ca.cert); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := checkIntermediate(root.cert); err == nil || !strings.Contains(err.Error(), "is a root") {
		t.Errorf("root: %v", err)
	}
}

// OpenSSL is another reader of the same certificates.
func TestOpenSSLAgrees(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("no openssl here")
	}
	root := newRoot(t, "slack.com")
	ca := newIntermediate(t, root, 0, "slack.com")
	der, err := ca.leaf("slack.com", newKey(t).Public(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	check := func(chain [][]byte) (string, error) {
		dir := t.TempDir()
		write := func(name string, der ...[]byte) string {
			path := filepath.Join(dir, name)
			var list []*x509.Certificate
			for _, d := range der {
				c, err := x509.ParseCertificate(d)
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, c)
			}
			if err := WriteFile(path, EncodeCertificates(list...), 0o644); err != nil {
				t.Fatal(err)
			}
			return path
		}
		out, err := exec.Command(openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", write("ca", root.cert.Raw),
			"-untrusted", write("inter", chain[1:]...), write("leaf", chain[0])).CombinedOutput()
		return string(out), err
	}
	if out, err := check([][]byte{der, ca.cert.Raw}); err != nil {
		t.Errorf("the real leaf: %s", out)
	}
	for want, chain := range map[string][][]byte{
		"permitted subtree violation": forge(t, ca, []string{"evil.com"}, nil),
		"excluded subtree violation":  forge(t, ca, nil, []net.IP{net.IPv4(10, 0, 0, 1)}),
		"path length":                 subCA(t, ca),
	} {
		if out, err := check(chain); err == nil || !strings.Contains(out, want) {
			t.Errorf("want %q, got %v %s", want, err, out)
		}
	}
}

func BenchmarkLeafSign(b *testing.B) {
	ca := newIntermediate(b, newRoot(b, "slack.com"), 0, "slack.com")
	pub := newKey(b).Public()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ca.leaf("slack.com", pub, time.Hour); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSerialsDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		s := newSerial()
		if s.Sign() <= 0 || len(s.Bytes()) != 16 || seen[s.String()] {
			t.Fatalf("serial %x", s)
		}
		seen[s.String()] = true
	}
}
