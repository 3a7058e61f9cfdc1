// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Bundle returns one PEM text with the certificates of system and then the roots, each
// once: for the variables that replace a runtime's trust (MUST K5). Certificates of
// system that Go cannot parse are kept, since another runtime may.
func Bundle(system []byte, roots ...*x509.Certificate) []byte {
	var out bytes.Buffer
	seen := make(map[[sha256.Size]byte]bool)
	add := func(der []byte) {
		if sum := sha256.Sum256(der); !seen[sum] {
			seen[sum] = true
			_ = pem.Encode(&out, &pem.Block{Type: certificateType, Bytes: der}) // a Buffer takes all
		}
	}
	for _, der := range certificateBlocks(system) {
		add(der)
	}
	for _, c := range roots {
		add(c.Raw)
	}
	return out.Bytes()
}

// systemFiles are where the systems that egret runs on keep their roots as one file.
func systemFiles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Alpine, Arch, distroless
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
		"/etc/pki/tls/certs/ca-bundle.crt",                  // older RHEL
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/ssl/cert.pem",                                 // macOS, BSD
	}
}

// SystemRoots returns the system's roots as PEM and the file or folder that they come
// from. The environment (SSL_CERT_FILE) is not asked: what egret trusts upstream must
// not depend on the variables that egret itself sets for its clients.
func SystemRoots() (text []byte, from string, err error) {
	for _, path := range systemFiles() {
		if text, _, err := readFile(path); err == nil && len(certificateBlocks(text)) > 0 {
			return text, path, nil
		}
	}
	const dir = "/etc/ssl/certs"
	if text := readDir(dir); len(text) > 0 {
		return text, dir, nil
	}
	return nil, "", fmt.Errorf("no system roots in %q or %q (install ca-certificates, or name a file)", systemFiles(), dir)
}

// readDir joins the certificates of a folder of PEM files.
func readDir(dir string) []byte {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var all []byte
	for _, e := range entries {
		text, _, err := readFile(filepath.Join(dir, e.Name()))
		if err == nil {
			all = append(all, Bundle(text)...)
		}
	}
	return all
}

// LoadUpstreamRoots returns the pool that upstreams are verified with, from a PEM file
// or, where file is empty, from the system. It refuses a pool that holds an
// interception CA: one with our marker or with the key of one of ours (MUST T12).
// The digest names the set of roots for logs and status.
func LoadUpstreamRoots(file string, ours ...*x509.Certificate) (pool *x509.CertPool, digest string, err error) {
	list, from, err := upstreamCertificates(file)
	if err != nil {
		return nil, "", fmt.Errorf("upstream roots: %w", err)
	}
	if err := CheckUpstreamPool(list, ours...); err != nil {
		return nil, "", fmt.Errorf("upstream roots of %q: %w", from, err)
	}
	pool = x509.NewCertPool()
	for _, c := range list {
		pool.AddCert(c)
	}
	return pool, digestOf(list), nil
}

// CheckUpstreamPool refuses certificates of which one is an interception CA, by its
// marker or because it has the key of one of ours: whoever reaches egret's CA could
// otherwise answer as any upstream (MUST T12). It takes certificates because an
// x509.CertPool cannot be looked into.
func CheckUpstreamPool(list []*x509.Certificate, ours ...*x509.Certificate) error {
	i := slices.IndexFunc(list, func(c *x509.Certificate) bool { return IsOurs(c, ours...) })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("%q is an interception CA of egret and must not verify upstreams (take it out of this file; give clients their own bundle: egret ca bundle)", list[i].Subject)
}

// upstreamCertificates is strict about a named file. Of the system's, those that Go
// cannot parse are left out, as the standard library does.
func upstreamCertificates(file string) ([]*x509.Certificate, string, error) {
	if file != "" {
		list, err := ReadCertificates(file)
		return list, file, err
	}
	text, from, err := SystemRoots()
	if err != nil {
		return nil, "", err
	}
	list := Parseable(text)
	if len(list) == 0 {
		return nil, "", errors.New("no usable certificate in " + from)
	}
	return list, from, nil
}

// Parseable returns those certificates of a PEM text that Go can parse.
func Parseable(text []byte) []*x509.Certificate {
	var list []*x509.Certificate
	for _, der := range certificateBlocks(text) {
		if c, err := x509.ParseCertificate(der); err == nil {
			list = append(list, c)
		}
	}
	return list
}

// digestOf does not depend on order or repetition.
func digestOf(list []*x509.Certificate) string {
	sums := make([][]byte, 0, len(list))
	for _, c := range list {
		sum := sha256.Sum256(c.Raw)
		sums = append(sums, sum[:])
	}
	slices.SortFunc(sums, bytes.Compare)
	h := sha256.New()
	for _, s := range slices.CompactFunc(sums, bytes.Equal) {
		_, _ = h.Write(s) // never fails
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}
