// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package certs

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/egret-proxy/egret/internal/durable"
)

const maxFile = 8 << 20 // bytes of a PEM file; the largest system bundle is under 1 MiB

// WriteFile replaces a file as a whole: readers see the old content or the new, also
// after a crash (temporary file beside it, fsync, rename, fsync of the folder).
func WriteFile(path string, data []byte, perm os.FileMode) error {
	return writeVia(path, data, perm, os.Rename)
}

// WriteNew is WriteFile for a file that must not exist yet: an error that is
// fs.ErrExist otherwise, and the old file is untouched.
func WriteNew(path string, data []byte, perm os.FileMode) error {
	return writeVia(path, data, perm, os.Link)
}

func writeVia(path string, data []byte, perm os.FileMode, place func(from, to string) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // after a rename there is nothing left to remove
	if err := fill(f, data, perm); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	if err := place(f.Name(), path); err != nil {
		return fmt.Errorf("write %q: %w", path, err)
	}
	if err := durable.SyncDir(dir); err != nil {
		return fmt.Errorf("fsync %q: %w", dir, err)
	}
	return nil
}

func fill(f *os.File, data []byte, perm os.FileMode) error {
	_, err := f.Write(data)
	return errors.Join(err, f.Chmod(perm), f.Sync(), f.Close())
}

// readFile reads a file of bounded size and returns its mode with it, both from one
// open file.
func readFile(path string) ([]byte, os.FileMode, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%q is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, 0, fmt.Errorf("read %q: %w", path, err)
	}
	if len(data) > maxFile {
		return nil, 0, fmt.Errorf("%q is larger than %d bytes", path, maxFile)
	}
	return data, info.Mode().Perm(), nil
}

// ReadCA reads a CA from a chain file and a key file, which may be the same file. A
// key that others may read is refused; its group may read it, because that is how
// Kubernetes gives a secret to a user that is not root (fsGroup).
func ReadCA(chainFile, keyFile string) (*CA, error) {
	chain, _, err := readFile(chainFile)
	if err != nil {
		return nil, fmt.Errorf("CA chain: %w", err)
	}
	key, mode, err := readFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("CA key: %w", err)
	}
	if mode&0o027 != 0 {
		return nil, fmt.Errorf("CA key %q has mode %04o: others may read it or its group may change it (chmod 0600 %[1]q; in Kubernetes: defaultMode: 0440)", keyFile, mode)
	}
	ca, err := DecodeCA(chain, key)
	if err != nil {
		return nil, fmt.Errorf("CA %q with key %q: %w", chainFile, keyFile, err)
	}
	return ca, nil
}

// ReadCertificates reads every certificate of a PEM file, in order.
func ReadCertificates(path string) ([]*x509.Certificate, error) {
	text, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	list, err := DecodeCertificates(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", path, err)
	}
	return list, nil
}
