// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

func metricsHandler(checks ...Check) *Metrics {
	reg := prometheus.NewRegistry()
	reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "egret_test", Help: "h"}, func() float64 { return 7 }))
	return NewMetrics(MetricsOptions{
		Gatherer: reg, Checks: checks,
		Version: Version{Version: "v1.2.3", Commit: "abc", Go: "go1.26"},
	})
}

func TestMUST_P2_MetricsServesFourPagesAndNothingElse(t *testing.T) {
	h := metricsHandler()
	for _, tc := range []struct {
		method, target string
		status         int
		body           string // a part
	}{
		{"GET", "/metrics", 200, "egret_test 7\n"},
		{"GET", "/livez", 200, "ok\n"},
		{"GET", "/readyz", 200, "ready\n"},
		{"GET", "/version", 200, `{"version":"v1.2.3","commit":"abc","go":"go1.26"}`},
		{"GET", "/version?x=1", 200, "v1.2.3"},
		{"HEAD", "/readyz", 200, ""},
		{"GET", "/", 404, "not found: there are /metrics, /livez, /readyz and /version"},
		{"GET", "/metrics/", 404, "not found"},
		{"GET", "//metrics", 404, "not found"},
		{"GET", "/x/../metrics", 404, "not found"},
		{"GET", "/debug/pprof/", 404, "not found"},
		{"GET", "/debug/vars", 404, "not found"},
		{"GET", "/v1/revoke", 404, "not found"},
		{"POST", "/v1/revoke", 404, "not found"},
		{"GET", "http://slack.com/metrics.txt", 404, "not found"},
		{"POST", "/metrics", 405, "this listener changes nothing: use GET or HEAD"},
		{"PUT", "/readyz", 405, "this listener changes nothing"},
		{"DELETE", "/livez", 405, "this listener changes nothing"},
		{"OPTIONS", "/version", 405, "this listener changes nothing"},
		{"TRACE", "/version", 405, "this listener changes nothing"},
	} {
		w := answer(h, tc.method, tc.target)
		if w.Code != tc.status || !strings.Contains(w.Body.String(), tc.body) {
			t.Errorf("%s %s: %d %q, want %d with %q", tc.method, tc.target, w.Code, w.Body, tc.status, tc.body)
		}
		if w.Header().Get("Location") != "" {
			t.Errorf("%s %s redirects", tc.method, tc.target)
		}
		if tc.status == 405 && w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow %q", tc.method, tc.target, w.Header().Get("Allow"))
		}
	}
}

func TestMUST_P2_MetricsIsNoProxy(t *testing.T) {
	ln := loopback(t)
	serve(t, NewServer(metricsHandler(), nil), ln)
	req, err := http.NewRequest("CONNECT", "http://"+ln.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = "slack.com:443"
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("CONNECT: %s", resp.Status)
	}
}

func TestMUST_P2_OptionsStarIsNotAnswered(t *testing.T) {
	ln := loopback(t)
	serve(t, NewServer(metricsHandler(), nil), ln)
	req, _ := http.NewRequest("OPTIONS", "http://"+ln.Addr().String(), nil)
	req.URL.Opaque = "*"
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("OPTIONS *: %s", resp.Status)
	}
}

func TestReadyNamesWhatFails(t *testing.T) {
	well := func() error { return nil }
	ill := func() error { return errors.New("no space left on device\x1b[2J") }
	for name, tc := range map[string]struct {
		checks []Check
		status int
		want   string
	}{
		"all well": {[]Check{{Name: "policy", Run: well}, {Name: "audit", Run: well}}, 200, "ready\npolicy: ok\naudit: ok\n"},
		"one fails": {[]Check{{Name: "policy", Run: well}, {Name: "audit", Run: ill}}, 503,
			"not ready\npolicy: ok\naudit: failed: no space left on device\\x1b[2J\n"},
		"advisory": {[]Check{{Name: "audit", Run: ill, Advisory: true}}, 200, "ready\naudit: degraded: no space left on device\\x1b[2J\n"},
		"advice": {[]Check{{Name: "ca", Run: func() error { return Advise(errors.New("it ends soon")) }}, {Name: "audit", Run: well}}, 200,
			"ready\nca: degraded: it ends soon\naudit: ok\n"},
		"panics": {[]Check{{Name: "spiffe", Run: func() error { panic("secret") }}}, 503,
			"not ready\nspiffe: failed: the check itself failed (string)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w := answer(metricsHandler(tc.checks...), "GET", "/readyz")
			if w.Code != tc.status {
				t.Errorf("status %d", w.Code)
			}
			if diff := cmp.Diff(tc.want, w.Body.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLiveDoesNotDependOnChecks(t *testing.T) {
	h := metricsHandler(Check{Name: "x", Run: func() error { return errors.New("ill") }})
	if w := answer(h, "GET", "/livez"); w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
}

func TestMetricsOverTheWire(t *testing.T) {
	ln := loopback(t)
	serve(t, NewServer(metricsHandler(), nil), ln)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + ln.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(b), "egret_test 7") {
		t.Errorf("%s %q %v", resp.Status, b, err)
	}
	if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
		t.Errorf("X-Content-Type-Options %q", got)
	}
}
