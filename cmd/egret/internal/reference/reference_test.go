// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package reference

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/egret-proxy/egret/config"
	"github.com/egret-proxy/egret/proxy"
)

const source = "../../../.."

func write(t *testing.T) map[string]string {
	t.Helper()
	root := &cobra.Command{Use: "egret", Short: "a tree of one", Run: func(*cobra.Command, []string) {}}
	dir := t.TempDir()
	if err := Write(dir, Options{Root: root, Source: source}); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range pages() {
		b, err := os.ReadFile(filepath.Join(dir, p.name))
		if err != nil {
			t.Fatal(err)
		}
		out[p.name] = string(b)
	}
	return out
}

func TestEverythingIsInTheReference(t *testing.T) {
	t.Parallel()
	made := write(t)
	for _, s := range config.Settings() {
		if top := !strings.ContainsAny(s.Key, ".["); !top && !strings.Contains(made["config.md"], mono(s.Key)) {
			t.Errorf("config.md: no %s", s.Key)
		}
	}
	for _, r := range proxy.Reasons() {
		if !strings.Contains(made["reasons.md"], mono(r.Reason.Code())+" | ") {
			t.Errorf("reasons.md: no %s: is its layer listed?", r.Reason)
		}
	}
	for _, want := range []string{"spec.allow[].paths", "spec.provider.oauth2.clientSecret.file", "spec.schedule.cron"} {
		if !strings.Contains(made["policy.md"], mono(want)) {
			t.Errorf("policy.md: no %s", want)
		}
	}
	for _, want := range []string{"egret_requests_total", "egret_audit_failing", "egret_leaf_cache_total", "egret_svid_expiry_seconds", "egret_policy_info"} {
		if !strings.Contains(made["metrics.md"], mono(want)) {
			t.Errorf("metrics.md: no %s", want)
		}
	}
}

// Every key, field and metric says what it means.
func TestEverythingHasWords(t *testing.T) {
	t.Parallel()
	for name, text := range write(t) {
		if name == "cli.md" {
			continue
		}
		for line := range strings.Lines(text) {
			if strings.HasSuffix(line, "|  |\n") {
				t.Errorf("%s: no words in: %s", name, line)
			}
		}
	}
}

func TestTheSameEveryTime(t *testing.T) {
	t.Parallel()
	if d := cmp.Diff(write(t), write(t)); d != "" {
		t.Error(d)
	}
}

func TestFindSource(t *testing.T) {
	t.Parallel()
	want, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := FindSource("testdata/does/not/matter"); err != nil || got != want {
		t.Errorf("FindSource() = %q, %v; want %q", got, err, want)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "go.mod"), []byte("module example.com/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := FindSource(other); err == nil {
		t.Errorf("FindSource() = %q for another module's tree", got)
	}
}

func TestMetricsAreDescribed(t *testing.T) {
	t.Parallel()
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "egret_x_total", Help: `Says "x", {y}.`, ConstLabels: prometheus.Labels{"version": "1"},
	}, []string{"a", "b"})
	got, err := metricsOf([]prometheus.Collector{
		vec,
		prometheus.NewHistogram(prometheus.HistogramOpts{Name: "egret_h_seconds", Help: "H."}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "egret_g", Help: "G."}, func() float64 { return 0 }),
		prometheus.NewCounter(prometheus.CounterOpts{Name: "go_other_total", Help: "Not ours."}),
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []metric{
		{name: "egret_g", kind: "gauge", help: "G."},
		{name: "egret_h_seconds", kind: "histogram", help: "H."},
		{name: "egret_x_total", kind: "counter", labels: "version, a, b", help: `Says "x", {y}.`},
	}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(metric{})); d != "" {
		t.Error(d)
	}
	if _, err := parseDescription("Desc{of another form}"); err == nil {
		t.Error("a description of an unknown form was taken")
	}
}

func TestTablesLeaveOutEmptyColumns(t *testing.T) {
	t.Parallel()
	m := &markdown{}
	m.table([]string{"a", "b", "c"}, [][]string{{"1", "", "x|y"}, {"", "", "z"}})
	if d := cmp.Diff("| a | c |\n| --- | --- |\n| 1 | x\\|y |\n|  | z |\n", string(m.bytes())); d != "" {
		t.Error(d)
	}
}
