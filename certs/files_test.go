// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadCARoundTrip(t *testing.T) {
	root := newRoot(t, "slack.com")
	ca := newIntermediate(t, root, 0, "slack.com")
	f := save(t, t.TempDir(), ca)
	got, err := ReadCA(f.Chain, f.Key)
	if err != nil {
		t.Fatal(err)
	}
	if !got.cert.Equal(ca.cert) || !samePublicKey(got.key.Public(), ca.key.Public()) || !got.Root().Equal(root.cert) {
		t.Error("the CA read is not the CA written")
	}
	text, _ := os.ReadFile(f.Key)
	if block, _ := pem.Decode(text); block == nil || block.Type != "PRIVATE KEY" {
		t.Errorf("the key is not PKCS#8: %.40s", text)
	}
}

func TestReadCAFaults(t *testing.T) {
	root := newRoot(t, "slack.com")
	ca := newIntermediate(t, root, 0, "slack.com")
	other := newRoot(t, "slack.com")
	key, _ := ca.EncodeKey()
	leaf, _ := x509.ParseCertificate(forge(t, ca, []string{"slack.com"}, nil)[0])
	tests := []struct {
		name       string
		chain, key []byte
		mode       fs.FileMode
		want       string
	}{
		{"no certificate", []byte("hello"), key, 0o600, "no PEM block of type CERTIFICATE"},
		{"bad certificate", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), key, 0o600, "certificate 1:"},
		{"no key", ca.EncodeChain(), []byte("hello"), 0o600, `no PEM block of type "PRIVATE KEY"`},
		{"bad key", ca.EncodeChain(), []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600, "not valid PKCS#8"},
		{"key of another", other.EncodeChain(), key, 0o600, "does not belong to the chain's first certificate"},
		{"root first", EncodeCertificates(root.cert, ca.cert), key, 0o600, "does not belong to the chain's first certificate"},
		{"wrong root", EncodeCertificates(ca.cert, other.cert), key, 0o600, "certificate 1 of the chain is not signed by certificate 2"},
		{"readable by others", ca.EncodeChain(), key, 0o644, "has mode 0644: others may read it"},
		{"writable by its group", ca.EncodeChain(), key, 0o660, "has mode 0660"},
		{"a leaf", EncodeCertificates(leaf), key, 0o600, "does not belong"},
		{"too large", bytes.Repeat([]byte("x"), maxFile+1), key, 0o600, "is larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			c, k := filepath.Join(dir, "c"), filepath.Join(dir, "k")
			if err := errors.Join(WriteFile(c, tt.chain, 0o644), WriteFile(k, tt.key, tt.mode)); err != nil {
				t.Fatal(err)
			}
			_, err := ReadCA(c, k)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := ReadCA(t.TempDir(), "/nonexistent"); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a folder: %v", err)
	}
	if _, err := DecodeCertificates(nil); err == nil {
		t.Error("an empty text has certificates")
	}
}

func TestKeyReadableByGroup(t *testing.T) {
	f := save(t, t.TempDir(), newIntermediate(t, newRoot(t, "slack.com"), 0, "slack.com"))
	if err := os.Chmod(f.Key, 0o440); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadCA(f.Chain, f.Key); err != nil {
		t.Errorf("a Kubernetes secret with fsGroup is refused: %v", err)
	}
}

// The property: any text yields an error or certificates that survive another round.
func FuzzDecodeCertificates(f *testing.F) {
	root := newRoot(f, "slack.com")
	f.Add(root.EncodeChain())
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := DecodeCertificates(text)
		if err != nil {
			return
		}
		again, err := DecodeCertificates(EncodeCertificates(list...))
		if err != nil || !slices.EqualFunc(list, again, (*x509.Certificate).Equal) {
			t.Errorf("another round: %v", err)
		}
		if n := len(certificateBlocks(Bundle(text, list...))); n > len(list) {
			t.Errorf("the bundle has %d of %d certificates", n, len(list))
		}
	})
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := WriteNew(path, []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteNew(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("an existing file: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != "one" {
		t.Errorf("the refused write changed the file: %q", got)
	}
	if err := WriteFile(path, []byte("three"), 0o640); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(path)
	if info, _ := os.Stat(path); string(got) != "three" || info.Mode().Perm() != 0o640 {
		t.Errorf("got %q, %v", got, info.Mode())
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("temporary files are left: %v", left)
	}
	if err := WriteFile("/nonexistent/f", nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}

func TestMUST_K5_RotationOverlaps(t *testing.T) {
	dir := RootDir(filepath.Join(t.TempDir(), "root"))
	first := newRoot(t, "slack.com")
	if err := dir.Init(first); err != nil {
		t.Fatal(err)
	}
	if err := dir.Init(newRoot(t, "slack.com")); !errors.Is(err, fs.ErrExist) {
		t.Fatalf("Init overwrote a root: %v", err)
	}
	if err := dir.Promote(); err == nil || !strings.Contains(err.Error(), "egret ca rotate") {
		t.Errorf("Promote without Rotate: %v", err)
	}
	next, err := dir.Rotate(RootOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if next.cert.PermittedDNSDomains[0] != "slack.com" || next.cert.Subject.Organization[0] != "Acme" {
		t.Errorf("the next root is %v for %v", next.cert.Subject, next.cert.PermittedDNSDomains)
	}
	signs(t, dir, first)
	trusts(t, dir, first, next)
	if _, err := dir.Rotate(RootOptions{}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second Rotate: %v", err)
	}
	if err := dir.Promote(); err != nil {
		t.Fatal(err)
	}
	signs(t, dir, next)
	trusts(t, dir, next, first)
	if _, err := dir.Rotate(RootOptions{}); err == nil || !strings.Contains(err.Error(), "--finish") {
		t.Errorf("Rotate before Finish: %v", err)
	}
	if text, _ := os.ReadFile(dir.path("previous.pem")); bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("the old root's key was kept")
	}
	if err := dir.Finish(); err != nil {
		t.Fatal(err)
	}
	trusts(t, dir, next)
	if err := dir.Finish(); err == nil {
		t.Error("Finish twice")
	}
}

func signs(t *testing.T, dir RootDir, want *CA) {
	t.Helper()
	got, err := dir.Root()
	if err != nil {
		t.Fatal(err)
	}
	if !got.cert.Equal(want.cert) {
		t.Errorf("%v signs, want %v", got.cert.Subject, want.cert.Subject)
	}
}

func trusts(t *testing.T, dir RootDir, want ...*CA) {
	t.Helper()
	got, err := ReadCertificates(dir.path("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, func(c *x509.Certificate, ca *CA) bool { return c.Equal(ca.cert) }) {
		t.Errorf("ca.pem holds %d certificates, want %d", len(got), len(want))
	}
}

func TestTrustedLeavesOutEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := RootDir(t.TempDir())
		short, err := NewRoot(RootOptions{Domains: []string{"slack.com"}, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.Init(short); err != nil {
			t.Fatal(err)
		}
		next, err := dir.Rotate(RootOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		got, err := dir.Trusted()
		if err != nil || len(got) != 1 || !got[0].Equal(next.cert) {
			t.Errorf("trusted: %d, %v", len(got), err)
		}
	})
}

func TestRootFilesArePrivate(t *testing.T) {
	dir := RootDir(filepath.Join(t.TempDir(), "new"))
	if err := dir.Init(newRoot(t, "slack.com")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"": 0o700, "root.pem": 0o600, "ca.pem": 0o644} {
		info, err := os.Stat(dir.path(name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q has mode %v (%v), want %v", name, info.Mode().Perm(), err, want)
		}
	}
	if text, _ := os.ReadFile(dir.path("ca.pem")); bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("ca.pem holds a key")
	}
}

// Promote has two writes; a crash between them must lose nothing.
func TestPromoteAfterCrash(t *testing.T) {
	dir := RootDir(t.TempDir())
	first := newRoot(t, "slack.com")
	if err := dir.Init(first); err != nil {
		t.Fatal(err)
	}
	next, err := dir.Rotate(RootOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(dir.path("previous.pem"), EncodeCertificates(first.cert), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := dir.Promote(); err != nil {
		t.Fatal(err)
	}
	signs(t, dir, next)
	trusts(t, dir, next, first)
}
