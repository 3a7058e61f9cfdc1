// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is in docs/reference is what this program says of itself.
func TestReferenceIsUpToDate(t *testing.T) {
	const committed = "../../docs/reference"
	dir := filepath.Join(t.TempDir(), "made")
	if code := run(t.Context(), []string{"docs", dir}, nil, os.Stdout, os.Stderr); code != exitOK {
		t.Fatalf("egret docs: exit code %d", code)
	}
	if d := cmp.Diff(names(t, dir), names(t, committed)); d != "" {
		t.Fatalf("pages (-made +committed):\n%s", d)
	}
	for _, name := range names(t, dir) {
		if d := cmp.Diff(read(t, committed, name), read(t, dir, name)); d != "" {
			t.Errorf("docs/reference/%s is not up to date, run make docs (-committed +made):\n%s", name, d)
		}
	}
}

func TestReferenceNeedsTheSource(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := writeReference(t.TempDir()); err == nil {
		t.Error("the reference was made without its source")
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		list[i] = filepath.Base(list[i])
	}
	return list
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
