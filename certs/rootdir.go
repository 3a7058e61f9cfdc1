// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// RootDir is a folder that keeps an off-line root. It belongs on no machine that
// serves (MUST K6).
//
//	root.pem      0600  certificate and key of the root that signs
//	next.pem      0600  the root that will sign, while a rotation is prepared
//	previous.pem  0644  certificate of the root that signed before, no key
//	ca.pem        0644  the certificates that clients must trust: all of the above
//
// Certificate and key share a file so that each step of a rotation is one rename.
// Two commands must not change the same folder at the same time.
type RootDir string

// Init puts a new root into the folder, which is made if it does not exist. A folder
// that already holds a root is refused with fs.ErrExist.
func (d RootDir) Init(root *CA) error {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return fmt.Errorf("make the root's folder: %w", err)
	}
	if err := d.write("root.pem", root, WriteNew); err != nil {
		return err
	}
	return d.writeBundle()
}

// Root reads the root that signs.
func (d RootDir) Root() (*CA, error) { return ReadCA(d.path("root.pem"), d.path("root.pem")) }

// Trusted returns the roots that clients must trust, the one that signs first. A root
// that has ended is left out.
func (d RootDir) Trusted() ([]*x509.Certificate, error) {
	var list []*x509.Certificate
	for _, name := range []string{"root.pem", "next.pem", "previous.pem"} {
		certs, err := ReadCertificates(d.path(name))
		if errors.Is(err, fs.ErrNotExist) && name != "root.pem" {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, certs...)
	}
	return slices.DeleteFunc(list, func(c *x509.Certificate) bool { return time.Now().After(c.NotAfter) }), nil
}

// Rotate makes the next root and adds it to ca.pem; the present one goes on signing.
// Domains and organization of opt default to those of the present root. Only when
// every client has the new ca.pem may Promote follow (MUST K5: old and new overlap).
func (d RootDir) Rotate(opt RootOptions) (*CA, error) {
	present, err := d.Root()
	if err != nil {
		return nil, err
	}
	if d.has("previous.pem") {
		return nil, errors.New("the last rotation is not finished (run: egret ca rotate --finish)")
	}
	if len(opt.Domains) == 0 {
		opt.Domains = present.cert.PermittedDNSDomains
	}
	if opt.Organization == "" && len(present.cert.Subject.Organization) > 0 {
		opt.Organization = present.cert.Subject.Organization[0]
	}
	next, err := NewRoot(opt)
	if err != nil {
		return nil, err
	}
	if err := d.write("next.pem", next, WriteNew); err != nil {
		return nil, err
	}
	return next, d.writeBundle()
}

// Promote lets the next root sign. The old one's key is destroyed; its certificate
// stays in ca.pem, for the intermediates that it signed.
func (d RootDir) Promote() error {
	present, err := d.Root()
	if err != nil {
		return err
	}
	if _, err := ReadCA(d.path("next.pem"), d.path("next.pem")); err != nil {
		return fmt.Errorf("no next root to promote (run first: egret ca rotate): %w", err)
	}
	if err := WriteFile(d.path("previous.pem"), EncodeCertificates(present.cert), 0o644); err != nil {
		return err // after a crash behind this line Promote is simply run again
	}
	if err := os.Rename(d.path("next.pem"), d.path("root.pem")); err != nil {
		return fmt.Errorf("promote the next root: %w", err)
	}
	return d.writeBundle()
}

// Finish drops the previous root from ca.pem. No intermediate of it may be in use any
// more: at the latest MaxIntermediateTTL after Promote.
func (d RootDir) Finish() error {
	if err := os.Remove(d.path("previous.pem")); err != nil {
		return fmt.Errorf("no rotation to finish: %w", err)
	}
	return d.writeBundle()
}

func (d RootDir) path(name string) string { return filepath.Join(string(d), name) }

func (d RootDir) has(name string) bool {
	_, err := os.Lstat(d.path(name))
	return err == nil
}

func (d RootDir) write(name string, ca *CA, put func(string, []byte, os.FileMode) error) error {
	key, err := ca.EncodeKey()
	if err != nil {
		return err
	}
	return put(d.path(name), append(ca.EncodeChain(), key...), 0o600)
}

func (d RootDir) writeBundle() error {
	trusted, err := d.Trusted()
	if err != nil {
		return err
	}
	return WriteFile(d.path("ca.pem"), EncodeCertificates(trusted...), 0o644)
}
