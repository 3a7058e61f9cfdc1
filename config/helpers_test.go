// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// podEnv is a machine where egret has a network namespace of its own.
func podEnv() Env {
	return Env{
		HostNetwork: func() bool { return false },
		GOOS:        "linux",
		Getenv:      func(string) string { return "" },
		Hostname:    func() (string, error) { return "node-1", nil },
	}
}

// newFolder makes a folder with the files that the settings in testdata name: a pair
// chain.pem and key.pem, another key, a key that others can read, and one that its group can.
func newFolder(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	cert, key := newPair(t)
	_, other := newPair(t)
	put(t, dir, "chain.pem", cert, 0o644)
	put(t, dir, "key.pem", key, 0o600)
	put(t, dir, "loose.pem", key, 0o644)
	put(t, dir, "group.pem", key, 0o440) // as a Secret with fsGroup is mounted
	put(t, dir, "other.pem", other, 0o600)
	put(t, dir, "empty.txt", "\n", 0o600)
	put(t, dir, "password", "hunter2\n", 0o600)
	put(t, dir, "policy.yaml", "", 0o600)
	put(t, dir, "folder/README.md", "not a policy", 0o600)
	return dir
}

func newPair(t testing.TB) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	check(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	check(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file with exactly this mode and returns its name.
func put(t testing.TB, dir, name, content string, mode os.FileMode) string {
	t.Helper()
	full := filepath.Join(dir, name)
	check(t, os.MkdirAll(filepath.Dir(full), 0o755))
	check(t, os.WriteFile(full, []byte(content), mode))
	check(t, os.Chmod(full, mode))
	return full
}

// golden compares text with the file beside a test's input.
func golden(t *testing.T, input, got string) {
	t.Helper()
	name := strings.TrimSuffix(input, ".yaml") + ".golden"
	if *update {
		check(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	check(t, err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", input, diff)
	}
}

func testdata(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	check(t, err)
	if len(files) == 0 {
		t.Fatalf("no testdata matches %s", pattern)
	}
	return files
}

// copyInto puts an input into a folder and returns its name there.
func copyInto(t testing.TB, dir, input string) string {
	t.Helper()
	data, err := os.ReadFile(input)
	check(t, err)
	return put(t, dir, filepath.Base(input), string(data), 0o600)
}

func readCertificates(t testing.TB, name string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(name)
	check(t, err)
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	check(t, err)
	return []*x509.Certificate{cert}
}
