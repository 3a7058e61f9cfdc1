// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/egret-proxy/egret/certs"
)

// publishRoots writes down what clients must trust where the CA lives as long as this
// process: nothing else could tell them.
func (n *Node) publishRoots() error {
	e := n.cfg.Certs.Issuer.Ephemeral
	switch {
	case e == nil:
		return nil
	case e.Bundle == "":
		if n.opt.Service {
			n.log.Warn("clients have no way to trust the ephemeral CA", "hint", "set certs.issuer.ephemeral.bundle to a file that its certificates are written to")
		}
		return nil
	}
	text := n.CABundle()
	if err := writeRoots(e.Bundle, text); err != nil {
		return fmt.Errorf("certs.issuer.ephemeral.bundle: %w", err)
	}
	n.onClose(func() { n.withdrawRoots(e.Bundle, text) })
	n.log.Info("wrote what clients must trust", "bundle", e.Bundle)
	return nil
}

// writeRoots replaces a bundle of an earlier run, and no other file: a name that was
// mistaken for another must not cost a key.
func writeRoots(file string, text []byte) error {
	if _, err := certs.ReadCertificates(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("must not replace what is no file of certificates: %w", err)
	}
	return certs.WriteFile(file, text, 0o644)
}

// withdrawRoots removes the bundle, unless another egret has written its own there.
func (n *Node) withdrawRoots(file string, text []byte) {
	now, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(now, text) {
		return
	}
	if err := os.Remove(file); err != nil {
		n.log.Warn("the bundle of a CA that is gone was not removed", "bundle", file, "error", err)
	}
}
