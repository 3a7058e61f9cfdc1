// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

// Package durable replaces files so that after a crash there is the old content or the
// new one, whole, and that what was said to be written is there after a power cut.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace writes data to a file of mode 0600 beside path, and renames it to path. Errors
// do not name the path: their caller knows what the file is for.
func Replace(path string, data []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*")
	if err != nil {
		return Unpath(err)
	}
	defer os.Remove(f.Name()) //nolint:errcheck // gone after the rename
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return Unpath(err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return Unpath(err)
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a folder durable: that of a file that was renamed into it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return Unpath(err)
	}
	return Unpath(errors.Join(d.Sync(), d.Close()))
}

// Unpath takes paths out of an error, whose text names them again and again.
func Unpath(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	if le, ok := errors.AsType[*os.LinkError](err); ok {
		return le.Err
	}
	return err
}
