// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	api "github.com/egret-proxy/egret/api/v1alpha1"
	"github.com/egret-proxy/egret/credential"
)

// TestKeysOfSeveralLines: wherever a private key is, it is read for each use.
func TestKeysOfSeveralLines(t *testing.T) {
	dir := t.TempDir()
	key := newRSAKey(t)
	file := put(t, dir, "app.pem", key, 0o600)
	vars := map[string]string{"CREDENTIALS_DIRECTORY": dir, "APP_KEY": key}
	b := &builder{opt: BuildOptions{LookupEnv: func(k string) (string, bool) { v, ok := vars[k]; return v, ok }}}
	for _, s := range []api.SecretSource{{File: file}, {SystemdCredential: "app.pem"}, {Env: "APP_KEY"}} {
		read := b.pem(&s)
		if got, err := read(); err != nil || got.Reveal() != key {
			t.Errorf("%+v: %v", s, err)
		}
		vars["APP_KEY"] = "another"
		put(t, dir, "app.pem", "another", 0o600)
		if got, err := read(); err != nil || got.Reveal() != "another" {
			t.Errorf("%+v after a rotation: %v", s, err)
		}
		vars["APP_KEY"] = key
		put(t, dir, "app.pem", key, 0o600)
	}
}

func TestMUST_P3_KeysThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	b := &builder{opt: BuildOptions{LookupEnv: func(string) (string, bool) { return "", false }}}
	for want, s := range map[string]api.SecretSource{
		"no such file or directory": {File: filepath.Join(dir, "gone")},
		"regular file":              {File: dir},
		"is empty":                  {File: put(t, dir, "empty", "", 0o600)},
		`"APP_KEY" is empty`:        {Env: "APP_KEY"},
	} {
		got, err := b.pem(&s)()
		e, ok := errors.AsType[*credential.Error](err)
		if !ok || !strings.Contains(e.Error(), want) || !got.IsZero() {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
}
