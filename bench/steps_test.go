// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/bench/internal/steps"
)

// TestStepsAreThere: every benchmark that steps.json names stands in its package.
func TestStepsAreThere(t *testing.T) {
	list, err := steps.Parse(stepsJSON)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		name, _, _ := strings.Cut(s.Benchmark, "/")
		if !declared(t, filepath.Join("..", s.Package), "func "+name+"(b *testing.B)") {
			t.Errorf("%s has no %s", s.Package, name)
		}
	}
}

func declared(t *testing.T, dir, text string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), text) {
			return true
		}
	}
	return false
}
