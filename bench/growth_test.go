// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/growth"
	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
)

// TestGrowth measures every curve in miniature, with the programs that are measured.
func TestGrowth(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("CPU clocks of processes are read on Linux only")
	}
	bin := t.TempDir()
	if err := rig.Build(t.Context(), bin, rig.Plain()); err != nil {
		t.Fatal(err)
	}
	o := growth.Options{Dir: t.TempDir(), Bin: bin, Rounds: 1, Window: 50 * time.Millisecond, Most: 100, Only: regexp.MustCompile(""), Progress: io.Discard}
	rep := &report.Report{Rounds: 1, Name: "growth"}
	if err := growth.Run(t.Context(), o, rep); err != nil {
		t.Fatal(err)
	}
	places := map[string][]float64{}
	for _, c := range rep.Curves {
		places[c.Panel+", "+c.Name] = c.Xs()
		for _, p := range c.Points {
			if p.Value <= 0 {
				t.Errorf("%s, %s is %g at %g", c.Panel, c.Name, p.Value, p.X)
			}
		}
	}
	for name, want := range map[string][]float64{
		"start, time to ready": {1}, "start, its CPU time": {1}, "memory at start, resident": {1},
		"connections, one request at a time": {1, 16, 100}, "connections, 16 at a time": {16, 100},
		"policies, 16 connections":          {1, 100},
		"destinations, leaf from the cache": {1, 100}, "destinations, leaf to be signed": {100}, "destinations, first visit of a host": {1, 100},
		"workloads, warm pools": {1, 16, 100},
	} {
		if !slices.Equal(places[name], want) {
			t.Errorf("%s has places %v, want %v", name, places[name], want)
		}
	}
	if err := save(rep, t.TempDir(), io.Discard); err != nil {
		t.Error(err)
	}
}

func TestGrowthOfNothing(t *testing.T) {
	err := dispatch(t.Context(), []string{"growth", "-only", "nothing", "-bin", t.TempDir(), "-out", filepath.Join(t.TempDir(), "out")}, streams{out: io.Discard, err: io.Discard})
	if err == nil || !strings.Contains(err.Error(), "matches nothing") {
		t.Error(err)
	}
}
