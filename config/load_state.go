// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	api "github.com/egret-proxy/egret/api/v1alpha1"
)

// state checks a file that egret writes, before a secret that works once is spent for
// what cannot be kept (MUST P3).
func (l *loader) state(i int, s api.StateFile) {
	written, dir := l.docs.written(i, s.Path), filepath.Dir(s.Name)
	if in := l.policyFolderOf(s.Name); in != "" {
		l.bad(i, s.Path, written, "must not be in a folder of policy, which is read anew whenever a file in it changes", "put it elsewhere, such as below /var/lib/egret")
		return
	}
	info, err := l.env.Stat(dir)
	switch {
	case err != nil && l.opt.SecretsElsewhere && elsewhere(err):
		l.notes = append(l.notes, fmt.Sprintf("state file %s is not here; egret run needs it", shown(s.Path, written)))
	case err != nil:
		l.bad(i, s.Path, written, "must be in a folder that is there: "+reason(err), "make it, owned by egret's user, mode 0700")
	case !info.IsDir():
		l.bad(i, s.Path, written, "must be in a folder", "")
	case l.opt.SecretsElsewhere: // what egret may do on its own machine is not known here
	default:
		if err := l.env.Writable(dir); err != nil {
			l.bad(i, s.Path, written, "must be in a folder that egret can write to: "+reason(err), "egret puts a new file in the place of the old one")
			return
		}
		l.stateFile(i, s, written)
	}
}

// stateFile checks the file itself: it is replaced, so it must not be a link.
func (l *loader) stateFile(i int, s api.StateFile, written string) {
	open := fs.FileMode(0o007)
	if s.Made {
		open = 0o077
	}
	info, err := l.env.Lstat(s.Name)
	switch {
	case err != nil && s.Made && errors.Is(err, fs.ErrNotExist):
	case err != nil:
		l.bad(i, s.Path, written, mustBeReadable(err), "write the first refresh token into it, mode 0600")
	case !info.Mode().IsRegular():
		l.bad(i, s.Path, written, "must be a regular file and no link: it is replaced", "")
	case info.Mode()&open != 0:
		l.bad(i, s.Path, written, fmt.Sprintf("must not be open to others, its mode is %04o", info.Mode().Perm()), "chmod 600 "+shellWord(written))
	case !s.Made:
		l.notEmpty(i, s, written)
	}
}

func (l *loader) notEmpty(i int, s api.StateFile, written string) {
	err := regular(l.env, s.Name, maxSecretBytes)
	var data []byte
	if err == nil {
		data, err = l.env.ReadFile(s.Name)
	}
	switch {
	case err != nil:
		l.bad(i, s.Path, written, mustBeReadable(err), "")
	case len(bytes.TrimSpace(data)) == 0:
		l.bad(i, s.Path, written, "must be a file that is not empty", "write the first refresh token into it")
	}
	clear(data)
}

// policyFolderOf returns the folder of policy whose snapshot a file is part of, "" for none.
func (l *loader) policyFolderOf(name string) string {
	for _, p := range l.node.Policy.Paths {
		rel, err := filepath.Rel(p.Path, name)
		if err == nil && rel != "." && !strings.HasPrefix(rel, ".") && !strings.Contains(rel, "/.") { // such names are not looked at
			return p.Path
		}
	}
	return ""
}

// elsewhere reports what is missing here and may be there where egret runs.
func elsewhere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)
}

// reason is an error without the path, which the fault has as value.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return err.Error()
}
