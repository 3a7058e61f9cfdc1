// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/identity/embedded"
)

// TestEphemeralRootsArePublished for clients, and only as long as they are good for
// something.
func TestEphemeralRootsArePublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	bundle := filepath.Join(w.Dir, "ca.pem")
	edit(t, w, "egret.yaml", "{ephemeral: {}}", "{ephemeral: {bundle: ca.pem}}")
	n, log, err := build(t, w)
	check(t, err)
	text, err := os.ReadFile(bundle)
	check(t, err)
	info, err := os.Stat(bundle)
	check(t, err)
	if string(text) != string(n.CABundle()) || info.Mode().Perm() != 0o644 || !strings.Contains(log.String(), "bundle="+bundle) {
		t.Errorf("mode %v, log %s, content\n%s", info.Mode(), log, text)
	}
	edit(t, w, "egret.yaml", "admin.sock", "second.sock")
	second, _, err := build(t, w) // replaces what a crash has left
	check(t, err)
	n.close()
	if _, err := os.Stat(bundle); err != nil {
		t.Errorf("the bundle of another egret is gone: %v", err)
	}
	second.close()
	if _, err := os.Stat(bundle); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the bundle outlives its CA: %v", err)
	}
}

// TestEphemeralRootsReplaceNothingElse: a mistaken name costs no key.
func TestEphemeralRootsReplaceNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	edit(t, w, "egret.yaml", "{ephemeral: {}}", "{ephemeral: {bundle: precious}}")
	check(t, w.Write("precious", "a key"))
	_, _, err := build(t, w)
	if err == nil || !strings.Contains(err.Error(), "certs.issuer.ephemeral.bundle: must not replace") {
		t.Errorf("got %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(w.Dir, "precious")); err != nil || string(text) != "a key" {
		t.Errorf("%q, %v", text, err)
	}
}

// TestEphemeralRootsAreMissed: a service that clients cannot trust says so.
func TestEphemeralRootsAreMissed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, embedded.Options{})
	n, log, err := build(t, w, func(o *Options) { o.Service = true })
	check(t, err)
	n.close()
	if !strings.Contains(log.String(), "set certs.issuer.ephemeral.bundle") {
		t.Errorf("no hint in %s", log)
	}
}
