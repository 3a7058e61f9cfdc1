// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/egret-proxy/egret/bench/internal/load"
	"github.com/egret-proxy/egret/bench/internal/report"
	"github.com/egret-proxy/egret/bench/internal/rig"
)

// TestMain lets the test's own binary be the origin and the load, as bench is when it runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "origin" || os.Args[1] == "load") {
		main()
		return
	}
	os.Exit(m.Run())
}

// startRig starts the targets that this machine has the programs of.
func startRig(t *testing.T, want ...string) (*rig.Rig, []string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("CPU clocks of processes are read on Linux only")
	}
	o := options{targets: strings.Join(want, ","), progress: t.Output()}
	targets, err := o.choose()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for name, target := range map[string]string{"egret": rig.Egret, "goproxy": rig.Goproxy} {
		if !slices.Contains(targets, target) {
			continue
		}
		if err := rig.Build(t.Context(), bin, rig.Plain(), name); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "egret-bench-") // squid is another user, and must be able to pass what is above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r, err := rig.Start(t.Context(), rig.Options{Dir: dir, Bin: bin, Bench: self, Grants: 1000, Targets: targets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, targets
}

// miniature makes a load small enough to be made in passing.
func (s scenario) miniature() scenario {
	const most = 256 << 10
	s.spec.Bytes, s.spec.Upload, s.Bytes = min(s.spec.Bytes, most), min(s.spec.Upload, most), min(s.Bytes, most)
	if s.spec.Hold {
		s.spec.Conns, s.spec.Settle = 40, 20*time.Millisecond
	}
	return s
}

// TestHarness makes every load of the plan in miniature, for every target that can carry
// it, with the programs that are measured, and holds it to what the report relies on.
func TestHarness(t *testing.T) {
	want := rig.Names()
	if testing.Short() {
		want = []string{rig.Direct, rig.Egret}
	}
	r, targets := startRig(t, want...)
	plan, err := options{window: 80 * time.Millisecond, warmup: 20 * time.Millisecond, rate: 100, body: 1024, full: true}.plan()
	if err != nil {
		t.Fatal(err)
	}
	for i := range plan {
		plan[i] = plan[i].miniature()
	}
	held, err := goals()
	if err != nil {
		t.Fatal(err)
	}
	rep := &report.Report{Rounds: 1, Date: time.Now(), Goals: held}
	for _, v := range visits(plan, targets, 1) {
		t.Run(v.Name+"/"+v.target, func(t *testing.T) {
			w := patiently(t, r, v)
			checkWindow(t, v.scenario, w)
			rep.Windows = append(rep.Windows, w)
		})
	}
	for _, s := range plan {
		rep.Loads = append(rep.Loads, s.Load)
	}
	t.Run("refused", func(t *testing.T) { checkRefused(t, r, targets, plan) })
	t.Run("report", func(t *testing.T) { checkSaved(t, rep) })
}

// patiently makes a window, and a longer one where the machine was too busy for a single
// answer.
func patiently(t *testing.T, r *rig.Rig, v visit) report.Window {
	t.Helper()
	for ; ; v.spec.Window *= 4 {
		w, err := v.measure(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if v.spec.Hold || w.Result.Latency.Count > 0 || w.Result.Errors > 0 || v.spec.Window > 10*time.Second {
			return w
		}
	}
}

func checkWindow(t *testing.T, s scenario, w report.Window) {
	t.Helper()
	res := w.Result
	if res.Errors != 0 || !s.spec.Hold && (res.Requests == 0 || res.Latency.Count == 0) {
		t.Errorf("%d requests, %d latencies, %d errors (%s)", res.Requests, res.Latency.Count, res.Errors, res.Error)
	}
	if w.Origin.Refused != 0 || w.Origin.Answered < res.Requests {
		t.Errorf("the origin answered %d and refused %d of at least %d requests", w.Origin.Answered, w.Origin.Refused, res.Requests)
	}
	for _, name := range []string{"origin", "proxy", "load"} {
		if _, asked := res.CPU[name]; !s.spec.Hold && res.CPU[name] <= 0 && (asked || name != "proxy" || w.Target != rig.Direct) {
			t.Errorf("%s used no CPU time: %v", name, res.CPU)
		}
	}
	switch m := res.Memory["proxy"]; {
	case s.spec.Fresh && res.Dials < res.Requests:
		t.Errorf("%d connections for %d requests, each of which has its own", res.Dials, res.Requests)
	case !s.spec.Fresh && res.Dials != int64(s.spec.Conns):
		t.Errorf("%d connections were made, want %d", res.Dials, s.spec.Conns)
	case s.spec.Hold && (res.Held < 1 || m.Before < 1<<20 || m.After < m.Before/2):
		t.Errorf("%d connections were held, memory %+v", res.Held, res.Memory)
	}
	checkBytes(t, s, res)
	if resumes := w.Target != rig.Goproxy && w.Target != rig.GoproxyPlain && w.Target != rig.Mitmproxy; s.spec.Resume && resumes && res.Requests > 20 && res.Resumed < res.Requests/2 {
		t.Errorf("%d of %d requests resumed a session", res.Resumed, res.Requests)
	}
	if !s.spec.Resume && res.Resumed != 0 {
		t.Errorf("%d requests resumed a session, and should not", res.Resumed)
	}
}

// checkBytes holds that what a request moves is what the load is about: all of it has
// been counted, but for requests that an edge of the window cuts.
func checkBytes(t *testing.T, s scenario, res load.Result) {
	t.Helper()
	each := s.spec.Bytes + s.spec.Upload
	switch s.spec.Kind {
	case load.Stream:
		each *= int64(s.spec.Times)
	case load.WebSocket:
		each *= 2
	}
	if cut := int64(s.spec.Conns * max(1, s.spec.Streams)); !s.spec.Hold && res.Bytes < (res.Requests-cut)*each {
		t.Errorf("%d bytes for %d requests of %d", res.Bytes, res.Requests, each)
	}
}

// checkRefused proves that the answers of the other windows needed the credential, for
// each kind of exchange, and that no proxy gets it from the load.
func checkRefused(t *testing.T, r *rig.Rig, targets []string, plan []scenario) {
	for _, kind := range []string{load.HTTP, load.GRPC, load.Stream} {
		i := slices.IndexFunc(plan, func(s scenario) bool { return s.spec.Kind == kind })
		spec := r.Aim(plan[i].spec, rig.Direct)
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
		if seen := after.Sub(before); res.Requests != 0 || res.Errors == 0 || seen.Refused == 0 || seen.Answered != 0 || !strings.Contains(res.Error, "401") && !strings.Contains(res.Error, "no credential") {
			t.Errorf("%q without the credential: %d answered, %d errors (%s), the origin saw %+v", kind, res.Requests, res.Errors, res.Error, seen)
		}
	}
	for _, v := range visits(plan, targets, 1) {
		if got := r.Aim(v.spec, v.target).Token != ""; got != (v.target == rig.Direct || v.spec.Tunnel) {
			t.Errorf("%s, %s: the load has the credential: %v", v.Name, v.target, got)
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
		full bool
		want int
		err  string
	}{
		{"", false, 8, ""},
		{"^h2", false, 4, ""},
		{"requests/s", false, 2, ""},
		{"requests/s", true, 4, ""},
		{"", true, 21, ""},
		{"nothing", true, 0, `-only "nothing" matches no load`},
		{"^idle", false, 0, `most loads are those of -full`},
		{"(", false, 0, "missing closing )"},
	} {
		plan, err := options{only: c.only, full: c.full, rate: 300, body: 1}.plan()
		if len(plan) != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("-only %q, full %v: %d loads, %v; want %d, %s", c.only, c.full, len(plan), err, c.want, c.err)
		}
	}
	if plan, err := (options{full: true, only: "^h1.*s$", rate: fastest, body: 1}).plan(); err != nil || len(plan) != 2 {
		t.Errorf("open loops of one rate: %v, %v", plan, err)
	}
}

// TestGoalsNameLoads: a goal of a load that is called otherwise is never measured.
func TestGoalsNameLoads(t *testing.T) {
	plan, err := options{full: true, rate: 300, body: 1}.plan()
	if err != nil {
		t.Fatal(err)
	}
	held, err := goals()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range held {
		for _, name := range []string{g.Load, g.AgainstLoad} {
			if name != "" && !slices.ContainsFunc(plan, func(s scenario) bool { return s.Name == name }) {
				t.Errorf("no load is called %q", name)
			}
		}
		if g.Against != "" && !slices.Contains(rig.Names(), g.Against) {
			t.Errorf("no target is called %q", g.Against)
		}
	}
}

func TestVisits(t *testing.T) {
	plan, err := options{full: true, rate: 300, body: 1}.plan()
	if err != nil {
		t.Fatal(err)
	}
	first := map[string]map[string]bool{} // by load, who came first in some round
	count := map[string]int{}
	last := ""
	for _, v := range visits(plan, rig.Names(), 5) {
		if !rig.Can(v.target, v.spec) {
			t.Errorf("%s cannot carry %s", v.target, v.Name)
		}
		if at := fmt.Sprint(v.round, v.Name); at != last {
			last = at
			if first[v.Name] == nil {
				first[v.Name] = map[string]bool{}
			}
			first[v.Name][v.target] = true
		}
		count[v.Name+"/"+v.target]++
	}
	if n := count["h1, 16 connections/egret"]; n != 5 {
		t.Errorf("egret is measured %d times, want 5", n)
	}
	if n := count["idle, 9000 connections/egret"]; n != holds {
		t.Errorf("idle connections of egret are measured %d times, want %d", n, holds)
	}
	if n := len(first["h1, 16 connections"]); n != 5 {
		t.Errorf("%d targets come first in some of five rounds", n)
	}
}

func TestChoose(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	var said strings.Builder
	o := options{targets: "egret,mitmproxy,direct", progress: &said}
	if got, err := o.choose(); err != nil || !slices.Equal(got, []string{rig.Direct, rig.Egret}) {
		t.Errorf("%v, %v", got, err)
	}
	if want := "mitmproxy is left out: there is no program mitmdump; on Debian, make bench-packages installs it\n"; said.String() != want {
		t.Errorf("said %q, want %q", said.String(), want)
	}
	o.targets = "egret,walk"
	if _, err := o.choose(); err == nil || !strings.Contains(err.Error(), `-targets: "walk" is not one of direct,nginx`) {
		t.Errorf("a target that nobody knows gives %v", err)
	}
}

// TestDescribe: what stands in a report is not what only a run knows.
func TestDescribe(t *testing.T) {
	targets, err := options{grants: 7}.describe(rig.Names())
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		if target.Setting == "" || target.Name == rig.Nginx && len(target.Configs) != 1 || target.Name == rig.Egret && !strings.HasPrefix(target.Setting, "7 access policies") {
			t.Errorf("%+v", target)
		}
	}
}

func TestProgress(t *testing.T) {
	var said strings.Builder
	v := visit{scenario: named("a load", load.Spec{Window: time.Minute}), target: rig.Egret}
	p := newProgress(&said, []visit{v, v}, 3)
	p.next(v)
	p.next(v) // too early to say it again
	if want := "2 windows, about 2m0s\nround 1 of 3, a load: about 2m0s left\n"; said.String() != want {
		t.Errorf("said %q, want %q", said.String(), want)
	}
	p.began = time.Now().Add(-30 * time.Second) // twice as fast as planned
	if left := p.left(); left < 25*time.Second || left > 35*time.Second {
		t.Errorf("%v left", left)
	}
}

func TestDispatch(t *testing.T) {
	for _, args := range [][]string{nil, {"walk"}, {"load"}, {"run", "-only", "nothing"}, {"origin", "-cert", "/nowhere"}, {"run", "-what"}, {"report"}, {"report", "/nowhere"}} {
		if err := dispatch(t.Context(), args, streams{strings.NewReader("{"), io.Discard, io.Discard}); err == nil {
			t.Errorf("bench %q is accepted", args)
		}
	}
}
