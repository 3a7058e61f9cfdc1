// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
)

func startRig(t *testing.T) *rig.Rig {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("CPU clocks of processes are read on Linux only")
	}
	bin := t.TempDir()
	if err := rig.Build(t.Context(), bin, rig.Plain()); err != nil {
		t.Fatal(err)
	}
	r, err := rig.Start(t.Context(), rig.Options{Dir: t.TempDir(), Bin: bin, Grants: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// TestHarness makes every load of the plan in miniature, with the programs that are
// measured, and holds it to what the report relies on.
func TestHarness(t *testing.T) {
	r := startRig(t)
	plan, err := options{window: 150 * time.Millisecond, warmup: 20 * time.Millisecond, rate: 100, body: 1024}.plan()
	if err != nil {
		t.Fatal(err)
	}
	rep := &report.Report{Rounds: 1, Date: time.Now()}
	for _, s := range plan {
		s.spec.Bytes = min(s.spec.Bytes, 256<<10) // miniature downloads
		s.Bytes = s.spec.Bytes
		for _, target := range []string{rig.Direct, rig.Goproxy, rig.Egret} {
			t.Run(s.Name+"/"+target, func(t *testing.T) {
				w, err := oneWindow(t.Context(), r, s, target)
				if err != nil {
					t.Fatal(err)
				}
				checkWindow(t, s, w)
				rep.Windows = append(rep.Windows, w)
			})
		}
		rep.Loads = append(rep.Loads, s.Load)
	}
	t.Run("refused", func(t *testing.T) { checkRefused(t, r, plan[0]) })
	t.Run("report", func(t *testing.T) { checkSaved(t, rep) })
}

func checkWindow(t *testing.T, s scenario, w report.Window) {
	t.Helper()
	res := w.Result
	if res.Errors != 0 || res.Requests == 0 || res.Latency.Count == 0 {
		t.Errorf("%d requests, %d latencies, %d errors (%s)", res.Requests, res.Latency.Count, res.Errors, res.Error)
	}
	if w.Origin.Refused != 0 || w.Origin.Answered < res.Requests {
		t.Errorf("the origin answered %d and refused %d of at least %d requests", w.Origin.Answered, w.Origin.Refused, res.Requests)
	}
	for _, name := range []string{"origin", "proxy", "load"} {
		if _, asked := res.CPU[name]; res.CPU[name] <= 0 && (asked || name != "proxy" || w.Target != rig.Direct) {
			t.Errorf("%s used no CPU time: %v", name, res.CPU)
		}
	}
	if want := int64(s.spec.Conns); !s.spec.Fresh && res.Dials != want {
		t.Errorf("%d connections were made, want %d", res.Dials, want)
	}
	if s.spec.Fresh && res.Dials < res.Requests {
		t.Errorf("%d connections for %d requests, each of which has its own", res.Dials, res.Requests)
	}
}

// checkRefused proves that the answers of the other windows needed the credential, and
// that neither proxy gets it from the load.
func checkRefused(t *testing.T, r *rig.Rig, s scenario) {
	spec := r.Aim(s.spec, rig.Direct)
	spec.Token = ""
	before, err := r.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.Load(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	after, err := r.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if seen := after.Sub(before); res.Requests != 0 || res.Errors == 0 || seen.Refused == 0 || seen.Answered != 0 || !strings.Contains(res.Error, "401") {
		t.Errorf("without the credential: %d answered, %d errors (%s), the origin saw %+v", res.Requests, res.Errors, res.Error, seen)
	}
	for _, target := range []string{rig.Goproxy, rig.Egret} {
		if r.Aim(s.spec, target).Token != "" {
			t.Errorf("the load gives %s the credential that it should put in", target)
		}
	}
}

func checkSaved(t *testing.T, rep *report.Report) {
	dir := t.TempDir()
	if err := save(rep, dir, io.Discard); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, rep.Date.UTC().Format(time.DateOnly))
	js, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var got report.Report
	if err := json.Unmarshal(js, &got); err != nil || len(got.Windows) != len(rep.Windows) {
		t.Errorf("the JSON holds %d of %d windows: %v", len(got.Windows), len(rep.Windows), err)
	}
	md, err := os.ReadFile(name + ".md")
	if err != nil || !strings.Contains(string(md), "| "+rep.Loads[0].Name+" |") {
		t.Errorf("the table lacks %q: %v", rep.Loads[0].Name, err)
	}
	var again strings.Builder
	if err := dispatch(t.Context(), []string{"report", name + ".json"}, streams{out: &again}); err != nil || again.String() != string(md) {
		t.Errorf("the JSON does not give the same table: %v", err)
	}
}

func TestPlan(t *testing.T) {
	for _, c := range []struct {
		only string
		want int
		err  string
	}{
		{"", 8, ""},
		{"^h2", 4, ""},
		{"requests/s", 2, ""},
		{"nothing", 0, `-only "nothing" matches no load`},
		{"(", 0, "missing closing )"},
	} {
		plan, err := options{only: c.only, rate: 1, body: 1}.plan()
		if len(plan) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("-only %q: %d loads, %v; want %d, %s", c.only, len(plan), err, c.want, c.err)
		}
	}
}

func TestDispatch(t *testing.T) {
	for _, args := range [][]string{nil, {"walk"}, {"load"}, {"run", "-only", "nothing"}, {"origin", "-cert", "/nowhere"}, {"run", "-what"}, {"report"}, {"report", "/nowhere"}} {
		if err := dispatch(t.Context(), args, streams{strings.NewReader("{"), io.Discard, io.Discard}); err == nil {
			t.Errorf("bench %q is accepted", args)
		}
	}
}
