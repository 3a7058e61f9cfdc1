// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package launch runs a program so that its HTTPS goes through egret: it writes the
// folder of trust files, computes the environment that each runtime understands, and
// passes signals and the exit code through. It knows nothing of policy or proxying.
//
// The environment leads a program to egret; it does not hold it there. A program that
// ignores proxy variables goes around egret unless the network stops it.
package launch

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/egret-proxy/egret/certs"
)

// StorePassword is the password of trust.p12. It protects nothing: the file holds
// public certificates, and Java will not read it without one.
const StorePassword = pkcs12.DefaultPassword

// Folder is a folder of trust files, one form per kind of runtime.
type Folder string

// Bundle is the system's roots and egret's, as PEM: for variables that replace.
func (f Folder) Bundle() string { return filepath.Join(string(f), "bundle.pem") }

// CA is egret's roots alone, as PEM: for variables that add.
func (f Folder) CA() string { return filepath.Join(string(f), "ca.pem") }

// TrustStore is Bundle as PKCS#12, for Java, which replaces.
func (f Folder) TrustStore() string { return filepath.Join(string(f), "trust.p12") }

// PHPIni points PHP's curl and streams at Bundle.
func (f Folder) PHPIni() string { return filepath.Join(string(f), "php.ini") }

// Wgetrc points wget at Bundle.
func (f Folder) Wgetrc() string { return filepath.Join(string(f), "wgetrc") }

// Trust is what a Folder is made of.
type Trust struct {
	System []byte              // PEM: what programs trust without egret
	Roots  []*x509.Certificate // egret's
}

// WriteTrust writes the files into an existing folder. Each is replaced as a whole.
func WriteTrust(dir string, t Trust) (Folder, error) {
	if len(t.Roots) == 0 {
		return "", errors.New("no CA certificate to trust")
	}
	f, err := absolute(dir)
	if err != nil {
		return "", err
	}
	bundle := certs.Bundle(t.System, t.Roots...)
	store, err := trustStore(bundle)
	if err != nil {
		return "", err
	}
	return f, errors.Join(
		certs.WriteFile(f.Bundle(), bundle, 0o644),
		certs.WriteFile(f.CA(), certs.EncodeCertificates(t.Roots...), 0o644),
		certs.WriteFile(f.TrustStore(), store, 0o644),
		certs.WriteFile(f.PHPIni(), phpIni(f.Bundle()), 0o644),
		certs.WriteFile(f.Wgetrc(), fmt.Appendf(nil, "# written by egret\nca_certificate = %s\n", f.Bundle()), 0o644),
	)
}

// NewFolder is WriteTrust into a new temporary folder that only this user can open.
// The caller removes it with Remove.
func NewFolder(t Trust) (Folder, error) {
	dir, err := os.MkdirTemp("", "egret-exec-") // mode 0700
	if err != nil {
		return "", fmt.Errorf("make the trust folder: %w", err)
	}
	f, err := WriteTrust(dir, t)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return f, nil
}

// Remove deletes the folder and what is in it.
func (f Folder) Remove() error { return os.RemoveAll(string(f)) }

// absolute, because a child may change its working directory.
func absolute(dir string) (Folder, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("trust folder %q: %w", dir, err)
	}
	return Folder(abs), nil
}

// trustStore encodes a bundle for Java 8u301, 11.0.12 and later. Certificates that Go
// cannot parse are left out.
func trustStore(bundle []byte) ([]byte, error) {
	var entries []pkcs12.TrustStoreEntry
	for i, c := range certs.Parseable(bundle) {
		entries = append(entries, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: alias(i, c)})
	}
	store, err := pkcs12.Modern2023.EncodeTrustStoreEntries(entries, StorePassword)
	if err != nil {
		return nil, fmt.Errorf("encode the Java trust store: %w", err)
	}
	return store, nil
}

// alias must be unique in a Java key store, or entries are lost.
func alias(i int, c *x509.Certificate) string {
	kind := "system"
	if certs.IsOurs(c) {
		kind = "egret"
	}
	return kind + "-" + strconv.Itoa(i+1)
}

func phpIni(bundle string) []byte {
	return fmt.Appendf(nil, "; written by egret\ncurl.cainfo = %q\nopenssl.cafile = %[1]q\n", bundle)
}
