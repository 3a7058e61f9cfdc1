// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestBundleHasEachOnce(t *testing.T) {
	a, b := newRoot(t, "a.com"), newRoot(t, "b.com")
	odd := []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") // Go cannot parse it, another runtime may
	system := bytes.Join([][]byte{[]byte("# a comment\n"), a.EncodeChain(), odd, a.EncodeChain()}, nil)
	got := Bundle(system, b.cert, a.cert, b.cert)
	want := append(append(a.EncodeChain(), odd...), b.EncodeChain()...)
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestMUST_T12_UpstreamPoolWithoutOurs(t *testing.T) {
	root := newRoot(t, "slack.com")
	ca := newIntermediate(t, root, 0, "slack.com")
	corp := foreignCA(t)
	tests := []struct {
		name  string
		text  []byte
		known []*x509.Certificate
		want  string
	}{
		{"foreign roots", corp.EncodeChain(), []*x509.Certificate{root.cert}, ""},
		{"our root", append(corp.EncodeChain(), root.EncodeChain()...), nil, "is an interception CA of egret"},
		{"our intermediate", EncodeCertificates(ca.cert), nil, "is an interception CA of egret"},
		{"a root without our marker whose key we use", corp.EncodeChain(), []*x509.Certificate{corp.cert}, "is an interception CA of egret"},
		{"another egret's root", newRoot(t, "other.com").EncodeChain(), nil, "is an interception CA of egret"},
		{"nothing", []byte("hello"), nil, "no PEM block"},
		{"a broken certificate", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), nil, "certificate 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "roots.pem")
			if err := WriteFile(path, tt.text, 0o644); err != nil {
				t.Fatal(err)
			}
			pool, digest, err := LoadUpstreamRoots(path, tt.known...)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || pool != nil {
					t.Errorf("got %v, want %q", err, tt.want)
				}
				return
			}
			if err != nil || pool == nil || !strings.HasPrefix(digest, "sha256:") {
				t.Errorf("got %v %q %v", pool, digest, err)
			}
		})
	}
	if _, _, err := LoadUpstreamRoots("/nonexistent"); err == nil {
		t.Error("a missing file is an empty pool")
	}
}

// A pool must not change because somebody sets a variable for the clients.
func TestSystemRootsIgnoreEnvironment(t *testing.T) {
	_, before, err := LoadUpstreamRoots("")
	if err != nil {
		t.Skip("no system roots here")
	}
	path := filepath.Join(t.TempDir(), "ours.pem")
	if err := os.WriteFile(path, newRoot(t, "slack.com").EncodeChain(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", path)
	t.Setenv("SSL_CERT_DIR", filepath.Dir(path))
	if _, after, err := LoadUpstreamRoots(""); err != nil || after != before {
		t.Errorf("the pool is now %s, was %s (%v)", after, before, err)
	}
}

func TestReadDir(t *testing.T) {
	dir := t.TempDir()
	a, b := newRoot(t, "a.com"), newRoot(t, "b.com")
	for name, text := range map[string][]byte{"a.pem": a.EncodeChain(), "b.pem": b.EncodeChain(), "note.txt": []byte("x")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(Parseable(readDir(dir))); n != 2 {
		t.Errorf("%d certificates, want 2", n)
	}
	if readDir(filepath.Join(dir, "none")) != nil {
		t.Error("a missing folder has certificates")
	}
}

func TestDigestIsOfTheSet(t *testing.T) {
	a, b := newRoot(t, "a.com").cert, newRoot(t, "b.com").cert
	one := digestOf([]*x509.Certificate{a, b})
	if one != digestOf([]*x509.Certificate{b, a, b}) {
		t.Error("order or repetition changes the digest")
	}
	if one == digestOf([]*x509.Certificate{a}) {
		t.Error("another set has the same digest")
	}
}
