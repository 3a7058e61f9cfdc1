// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// IssuerFile names one intermediate on disk, as `egret ca issue` writes it.
type IssuerFile struct {
	Chain string // PEM: the intermediate, then those above it; the root, last, is optional
	Key   string // PEM, PKCS#8; not readable by others
}

// FileIssuer signs with intermediates that lie in files. It is safe for concurrent use.
type FileIssuer struct {
	files []IssuerFile
	now   atomic.Pointer[signers]
}

var (
	_ Issuer  = (*FileIssuer)(nil)
	_ Expirer = (*FileIssuer)(nil)
)

// NewFileIssuer loads the intermediates. All must be well formed and at least one must
// still live; hosts of one that has ended get ErrExpired until a Reload brings another.
func NewFileIssuer(files ...IssuerFile) (*FileIssuer, error) {
	f := &FileIssuer{files: files}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the files again. On an error the intermediates that were loaded before
// stay in use (MUST K6); the files are replaced one after the other, so that a reload
// in between fails and the next one succeeds.
func (f *FileIssuer) Reload() error {
	var all []*CA
	var faults []error
	for _, file := range f.files {
		ca, err := loadIntermediate(file)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		all = append(all, ca)
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	if err := oneLives(all); err != nil {
		return err
	}
	f.now.Store(newSigners(all))
	return nil
}

func loadIntermediate(file IssuerFile) (*CA, error) {
	ca, err := ReadCA(file.Chain, file.Key)
	if err != nil {
		return nil, err
	}
	if err := checkIntermediate(ca.cert); err != nil {
		return nil, fmt.Errorf("intermediate %q: %w", file.Chain, err)
	}
	return ca, nil
}

func oneLives(all []*CA) error {
	if len(all) == 0 {
		return errors.New("no intermediate is configured (make one with: egret ca issue)")
	}
	last := all[0].cert.NotAfter
	for _, ca := range all {
		if ca.cert.NotAfter.After(last) {
			last = ca.cert.NotAfter
		}
	}
	if !time.Now().Before(last) {
		return fmt.Errorf("%w: the last one ended at %s (renew with: egret ca issue --replace)", ErrExpired, last.Format(time.RFC3339))
	}
	return nil
}

// Issue implements Issuer. Of several intermediates that permit the host, the one with
// the longest life signs.
func (f *FileIssuer) Issue(ctx context.Context, host string, pub crypto.PublicKey, ttl time.Duration) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return f.now.Load().issue(host, pub, ttl)
}

// Permits implements Issuer.
func (f *FileIssuer) Permits(host string) bool { return f.now.Load().find(host) != nil }

// Expires implements Expirer.
func (f *FileIssuer) Expires() time.Time { return f.now.Load().expires() }

// Roots returns the roots that clients must trust, as far as the chain files hold them.
func (f *FileIssuer) Roots() []*x509.Certificate { return f.now.Load().roots() }

// BundlePEM returns Roots as PEM: for the variables that add to a runtime's trust.
func (f *FileIssuer) BundlePEM() []byte { return EncodeCertificates(f.Roots()...) }

// Authorities returns every loaded CA certificate, for LoadUpstreamRoots to refuse.
func (f *FileIssuer) Authorities() []*x509.Certificate { return f.now.Load().authorities() }
