// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/egret-proxy/egret/bench/internal/report"
)

// written saves a run whose only figure has these values.
func written(t *testing.T, values ...float64) string {
	t.Helper()
	r := report.Report{Rounds: len(values)}
	for round, v := range values {
		r.Figures = append(r.Figures, report.Figure{Name: "memory", Target: report.Egret, Round: round, Value: v, Unit: report.Octets})
	}
	js, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.json")
	if err := os.WriteFile(path, js, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCompareFailsOver(t *testing.T) {
	before, after := written(t, 100, 101, 102, 103, 104), written(t, 130, 131, 132, 133, 134)
	for _, c := range []struct {
		name string
		args []string
		err  string
	}{
		{"no limit", []string{before, after}, ""},
		{"over it", []string{"-fail-over", "10%", before, after}, "worse by more than 10%: memory"},
		{"under it", []string{"-fail-over", "50%", before, after}, ""},
		{"better", []string{"-fail-over", "10%", after, before}, ""},
		{"no share", []string{"-fail-over", "10", before, after}, "no positive share"},
		{"one file", []string{before}, "two files"},
		{"no file", []string{before, "/nowhere"}, "no such file"},
	} {
		err := dispatch(t.Context(), append([]string{"compare"}, c.args...), streams{out: io.Discard, err: io.Discard})
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.name, err, c.err)
		}
	}
}

func TestGoalsAreGood(t *testing.T) {
	list, err := goals()
	if err != nil || len(list) == 0 {
		t.Fatalf("%d goals, %v", len(list), err)
	}
}
