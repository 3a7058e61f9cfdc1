// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"golang.org/x/sys/unix"
)

// maxSecretBytes bounds files that hold one secret or a few certificates.
const maxSecretBytes = 1 << 20

// readFile reads a regular file of at most maxFileBytes.
func readFile(env Env, name string) ([]byte, error) {
	if err := regular(env, name, maxFileBytes); err != nil {
		return nil, err
	}
	return env.ReadFile(name)
}

// regular reports whether name is a file that is safe to read whole: a FIFO would
// block the load, a directory or a huge file is a mistake.
func regular(env Env, name string, limit int64) error {
	info, err := env.Stat(name)
	switch {
	case err != nil:
		return err
	case info.IsDir():
		return errors.New("it is a folder")
	case !info.Mode().IsRegular():
		return errors.New("it is not a regular file")
	case info.Size() > limit:
		return fmt.Errorf("it has more than %v", Size(limit))
	}
	return nil
}

// ReadFile reads a regular file of at most 4 MiB, the bound of every file of settings or
// policy. It never waits, as os.ReadFile does for a FIFO that nobody writes to.
func ReadFile(name string) ([]byte, error) { return readFile(Env{}.complete(), name) }

// openRegular opens a file that is regular when it is open, whatever it was before, and
// stands on a disk: a file of the kernel's own making can have no end, and
// reading it may wait for ever.
func openRegular(name string) (*os.File, error) {
	return asRegular(os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0))
}

func asRegular(f *os.File, err error) (*os.File, error) {
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && (!info.Mode().IsRegular() || kernelMade(int(f.Fd()))) {
		err = errors.New("it is not a regular file")
	}
	if err != nil {
		_ = f.Close() // only opened
		return nil, err
	}
	return f, nil
}

// readRegular is os.ReadFile for files that openRegular opens, of at most maxFileBytes.
func readRegular(name string) ([]byte, error) {
	return readAll(openRegular(name))
}

func readAll(f *os.File, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(data) > maxFileBytes {
		return nil, fmt.Errorf("it has more than %v", Size(maxFileBytes))
	}
	return data, err
}

// readWithin reads a file below a folder that its authors may not leave, not even by a
// link that has come after the folder was listed (MUST G1). Both are real paths.
func readWithin(root, real string) ([]byte, error) {
	if root == real {
		return readRegular(real)
	}
	rel, err := filepath.Rel(root, real)
	if err != nil {
		return nil, err
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	return readAll(asRegular(r.OpenFile(rel, os.O_RDONLY|unix.O_NONBLOCK, 0)))
}

// mustBeReadable is the rule that an error of reading broke, without the path, which
// is the fault's value.
func mustBeReadable(err error) string {
	return "must be a file that can be read: " + reason(err)
}

// file resolves the path against the folder of the settings and reads it. Nil where
// there is a fault, or no path where one is not required.
func (c *checker) file(path string, name *string) []byte {
	shown := *name
	*name = c.abs(shown)
	if !printable(shown) {
		c.bad(path, shown, "must be a path without control characters", "")
		return nil
	}
	if err := regular(c.env, *name, maxSecretBytes); err != nil {
		c.bad(path, shown, mustBeReadable(err), "")
		return nil
	}
	data, err := c.env.ReadFile(*name)
	if err != nil {
		c.bad(path, shown, mustBeReadable(err), "")
		return nil
	}
	return data
}

func (c *checker) abs(name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(c.dir, name)
}

// private refuses a file with a key in it that others can read, or its group can change. Its
// group may read it: that is how Kubernetes gives a Secret to a user that is not root.
func (c *checker) private(path, shown, name string) {
	info, err := c.env.Stat(name)
	if err == nil && info.Mode().Perm()&0o027 != 0 {
		c.bad(path, shown, fmt.Sprintf("must be readable by its owner and its group only, and writable by its owner, its mode is %04o", info.Mode().Perm()),
			"chmod 600 "+shellWord(shown)+"; in Kubernetes defaultMode: 0440, with fsGroup in the pod's securityContext")
	}
}

// pair checks that a certificate file and a key file hold a pair.
func (c *checker) pair(certPath string, cert *string, keyPath string, key *string) {
	shownCert, shownKey := *cert, *key
	for _, f := range []struct{ path, name string }{{certPath, shownCert}, {keyPath, shownKey}} {
		if f.name == "" {
			c.bad(f.path, "", "must name a PEM file", "")
		}
	}
	if shownCert == "" || shownKey == "" {
		return
	}
	certPEM, keyPEM := c.file(certPath, cert), c.file(keyPath, key)
	c.private(keyPath, shownKey, *key)
	if certPEM == nil || keyPEM == nil {
		return
	}
	// What X509KeyPair says is about the form of the files and never quotes them.
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		c.bad(certPath, shownCert, "must be a PEM certificate that fits its key: "+strings.TrimPrefix(err.Error(), "tls: "), "")
	}
}

// roots checks a PEM file of certificates, "" for none.
func (c *checker) roots(path string, name *string) {
	if *name == "" {
		return
	}
	shown := *name
	if data := c.file(path, name); data != nil {
		if err := checkRoots(data); err != nil {
			c.bad(path, shown, "must be a PEM file of certificates: "+err.Error(), "")
		}
	}
}

// checkRoots is stricter than CertPool.AppendCertsFromPEM, which skips what it does
// not understand.
func checkRoots(data []byte) error {
	n := 0
	for rest := data; ; n++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it holds a block of type %q", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("block %d is not a certificate", n+1)
		}
	}
	if n == 0 {
		return errors.New("it holds none")
	}
	return nil
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// shellWord quotes a path for a command that a hint tells to run.
func shellWord(s string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:*", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !safe(r) }) && !strings.Contains(s, "*") {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// secretFile checks a file that holds one secret.
func (c *checker) secretFile(path string, name *string) {
	if data := c.file(path, name); data != nil && len(bytes.TrimSpace(data)) == 0 {
		c.bad(path, *name, "must be a file that is not empty", "")
	}
}
