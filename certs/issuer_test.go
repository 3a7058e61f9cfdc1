// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// issuerOf writes the intermediates to files and loads them.
func issuerOf(t testing.TB, cas ...*CA) (*FileIssuer, []IssuerFile) {
	t.Helper()
	var files []IssuerFile
	for _, ca := range cas {
		files = append(files, save(t, t.TempDir(), ca))
	}
	f, err := NewFileIssuer(files...)
	if err != nil {
		t.Fatal(err)
	}
	return f, files
}

func TestFileIssuerPicksByHost(t *testing.T) {
	root := newRoot(t, "slack.com", "github.com")
	slack := newIntermediate(t, root, 2*time.Hour, "slack.com")
	longer := newIntermediate(t, root, 4*time.Hour, "api.slack.com", "slack.com")
	github := newIntermediate(t, root, time.Hour, "api.github.com")
	f, _ := issuerOf(t, slack, longer, github)
	tests := []struct {
		host string
		want *CA // nil: not permitted
	}{
		{"slack.com", longer},
		{"api.slack.com", longer},
		{"files.slack.com", longer},
		{"api.github.com", github},
		{"github.com", nil},
		{"notslack.com", nil},
		{"com", nil},
	}
	for _, tt := range tests {
		t.Run(tt.host, func(t *testing.T) {
			if got := f.Permits(tt.host); got != (tt.want != nil) {
				t.Errorf("Permits: %v", got)
			}
			chain, err := f.Issue(context.Background(), tt.host, newKey(t).Public(), time.Hour)
			if tt.want == nil {
				if !errors.Is(err, ErrNotPermitted) {
					t.Errorf("got %v, want ErrNotPermitted", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(chain) != 2 || string(chain[1]) != string(tt.want.cert.Raw) {
				t.Errorf("the chain has %d certificates or another intermediate", len(chain))
			}
			if err := verify(root.cert, tt.host, chain); err != nil {
				t.Error(err)
			}
		})
	}
	if got := f.Expires(); !got.Equal(github.cert.NotAfter) {
		t.Errorf("Expires: %s, want %s", got, github.cert.NotAfter)
	}
	if got := f.Roots(); len(got) != 1 || !got[0].Equal(root.cert) || string(f.BundlePEM()) != string(root.EncodeChain()) {
		t.Errorf("%d roots", len(got))
	}
	if len(f.Authorities()) != 6 {
		t.Errorf("%d authorities", len(f.Authorities()))
	}
}

func TestFileIssuerRefusesBadHosts(t *testing.T) {
	f, _ := issuerOf(t, newIntermediate(t, newRoot(t, "slack.com"), 0, "slack.com"))
	for _, host := range []string{"10.0.0.1", "::1", "*.slack.com", "SLACK.com", "slack.com.", ""} {
		if _, err := f.Issue(context.Background(), host, newKey(t).Public(), time.Hour); !errors.Is(err, ErrInvalidHost) {
			t.Errorf("%q: %v", host, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := f.Issue(ctx, "slack.com", newKey(t).Public(), time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestMUST_K6_SignerDecidesConstraints(t *testing.T) {
	root := newRoot(t, "slack.com")
	rootFile := save(t, t.TempDir(), root)
	if _, err := NewFileIssuer(rootFile); err == nil || !strings.Contains(err.Error(), "a root's key stays off the machine that serves") {
		t.Errorf("a root is taken as an issuer: %v", err)
	}
	wide, err := signCA(caTemplate("intermediate", "", []string{"slack.com"}), root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewFileIssuer(save(t, t.TempDir(), wide)); err == nil || !strings.Contains(err.Error(), "path length") {
		t.Errorf("a CA that could make CAs is taken: %v", err)
	}
	if _, err := NewFileIssuer(); err == nil || !strings.Contains(err.Error(), "egret ca issue") {
		t.Errorf("no file: %v", err)
	}
}

// Faults of all files are told at once.
func TestFileIssuerReportsAllFaults(t *testing.T) {
	_, err := NewFileIssuer(IssuerFile{"/nonexistent/a", "/nonexistent/b"}, IssuerFile{"/nonexistent/c", "/nonexistent/d"})
	if err == nil || !strings.Contains(err.Error(), "/nonexistent/a") || !strings.Contains(err.Error(), "/nonexistent/c") {
		t.Errorf("got %v", err)
	}
}

func TestFileIssuerReload(t *testing.T) {
	root := newRoot(t, "slack.com", "github.com")
	f, files := issuerOf(t, newIntermediate(t, root, 0, "slack.com"))
	if err := os.WriteFile(files[0].Chain, []byte("half a file"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err == nil {
		t.Error("a broken file was loaded")
	}
	if !f.Permits("slack.com") {
		t.Error("the good set was dropped")
	}
	save(t, filepath.Dir(files[0].Chain), newIntermediate(t, root, 0, "github.com"))
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if f.Permits("slack.com") || !f.Permits("github.com") {
		t.Error("the new set is not in use")
	}
}

func TestMUST_K6_OneEndedIntermediateStopsOnlyItsHosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t, "slack.com", "github.com")
		short := newIntermediate(t, root, time.Hour, "slack.com")
		long := newIntermediate(t, root, 5*time.Hour, "github.com")
		f, files := issuerOf(t, short, long)
		time.Sleep(2 * time.Hour)
		ended := func() {
			t.Helper()
			if _, err := f.Issue(context.Background(), "slack.com", newKey(t).Public(), time.Hour); !errors.Is(err, ErrExpired) {
				t.Errorf("got %v, want ErrExpired", err)
			}
			if !f.Permits("slack.com") {
				t.Error("an ended intermediate makes a load fault of its hosts")
			}
			issue(t, f, "github.com")
		}
		ended()
		if err := f.Reload(); err != nil { // a restart of the node is the same
			t.Error(err)
		}
		ended()
		time.Sleep(4 * time.Hour)
		if err := f.Reload(); !errors.Is(err, ErrExpired) {
			t.Errorf("all have ended: %v", err)
		}
		if _, err := NewFileIssuer(files...); !errors.Is(err, ErrExpired) {
			t.Errorf("start with nothing alive: %v", err)
		}
	})
}

// A company's own CA may stand above: its chain is sent without the root.
func TestFileIssuerSendsWholeChain(t *testing.T) {
	corp := foreignCA(t)
	tmpl := caTemplate("policy", "Corp", []string{"slack.com"})
	tmpl.NotAfter, tmpl.MaxPathLen = corp.cert.NotAfter, 1
	middle, err := signCA(tmpl, corp)
	if err != nil {
		t.Fatal(err)
	}
	f, _ := issuerOf(t, newIntermediate(t, middle, 0, "slack.com"))
	chain := issue(t, f, "slack.com")
	if len(chain) != 3 {
		t.Errorf("the chain has %d certificates, want leaf and two intermediates", len(chain))
	}
	if err := verify(corp.cert, "slack.com", chain); err != nil {
		t.Error(err)
	}
}

func TestEphemeralIssuerSplits(t *testing.T) {
	hosts := make([]string, 250)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("h%d.example.com", i)
	}
	e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: hosts})
	if err != nil {
		t.Fatal(err)
	}
	roots := e.Roots()
	if len(roots) != 3 {
		t.Fatalf("%d roots, want 3", len(roots))
	}
	for i, root := range []*x509.Certificate{roots[0], roots[1], roots[2]} {
		host := hosts[i*MaxNames+7]
		if err := verify(root, host, issue(t, e, host)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if n := len(root.PermittedDNSDomains); n > MaxNames {
			t.Errorf("root %d permits %d names", i, n)
		}
	}
	for _, c := range e.Authorities() {
		if !IsOurs(c) {
			t.Errorf("%v is not marked", c.Subject)
		}
	}
	if e.Permits("example.com") || e.Permits("h250.example.com") || !e.Permits("h249.example.com") {
		t.Error("it permits other hosts than those given")
	}
	if got := len(Parseable(e.BundlePEM())); got != 3 {
		t.Errorf("the bundle has %d roots", got)
	}
}

func TestEphemeralIssuerRenews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: []string{"*.slack.com"}})
		if err != nil {
			t.Fatal(err)
		}
		root := e.Roots()[0]
		for range 20 {
			time.Sleep(9 * time.Hour)
			chain := issue(t, e, "a.slack.com")
			if err := verify(root, "a.slack.com", chain); err != nil {
				t.Fatalf("after %s: %v", time.Since(root.NotBefore), err)
			}
		}
		if !e.Roots()[0].Equal(root) {
			t.Error("the root that clients trust has changed")
		}
		if !e.Expires().Equal(root.NotAfter) {
			t.Error("Expires is not the root's end")
		}
	})
}

func TestEphemeralIssuerFaults(t *testing.T) {
	for want, opt := range map[string]EphemeralOptions{
		"at least one host": {},
		"IP addresses":      {Hosts: []string{"10.0.0.1"}},
		"is not within":     {Hosts: []string{"a.com"}, TTL: -1},
		"a public suffix":   {Hosts: []string{"*.com"}},
	} {
		if _, err := NewEphemeralIssuer(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	e, err := NewEphemeralIssuer(EphemeralOptions{Hosts: []string{"a.com"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := e.Issue(ctx, "a.com", newKey(t).Public(), time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
