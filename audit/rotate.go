// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// rotatedFormat is the suffix of a rotated file. Names sort by time.
const rotatedFormat = "20060102T150405.000Z"

// freeName returns the name for a file that is rotated at t, a millisecond or more
// later where that name is taken.
func freeName(path string, t time.Time) (string, error) {
	for ; ; t = t.Add(time.Millisecond) {
		name := path + "." + t.UTC().Format(rotatedFormat)
		_, err := os.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
}

// rotated lists the rotated siblings of path, oldest first: regular files whose suffix
// is exactly ours.
func rotated(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		suffix, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
		if ok && e.Type().IsRegular() && isRotatedSuffix(suffix) {
			names = append(names, filepath.Join(filepath.Dir(path), e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

func isRotatedSuffix(s string) bool {
	t, err := time.Parse(rotatedFormat, s)
	return err == nil && t.Format(rotatedFormat) == s
}

// prune removes the oldest rotated files beyond keep; keep 0 keeps all.
func prune(path string, keep int) error {
	if keep == 0 {
		return nil
	}
	names, err := rotated(path)
	if err != nil {
		return err
	}
	var errs []error
	for len(names) > keep {
		errs = append(errs, os.Remove(names[0]))
		names = names[1:]
	}
	return errors.Join(errs...)
}
