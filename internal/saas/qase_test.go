// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newQaseFixture() (*Qase, string, string) {
	tokens := NewIssuer(nil)
	q := NewQase(QaseConfig{Tokens: tokens, Now: newClock().now})
	rw, ro := tokens.Issue([]string{QaseRead, QaseWrite}, 0), tokens.Issue([]string{QaseRead}, 0)
	return q, "Token: " + rw.Reveal(), "Token: " + ro.Reveal()
}

func TestQaseRefuses(t *testing.T) {
	q, rw, ro := newQaseFixture()
	for _, tc := range []struct {
		name, line, body, header string
		want                     int
	}{
		{"no token", "GET /v1/project", "", "Accept: */*", 401},
		{"wrong token", "GET /v1/project", "", "Token: nobody", 401},
		{"token as bearer", "GET /v1/project", "", "Authorization: Bearer " + strings.TrimPrefix(rw, "Token: "), 401},
		{"reader writes", "POST /v1/run/WEB", `{"title":"x"}`, ro, 403},
		{"other project", "GET /v1/run/API", "", rw, 404},
		{"other run", "GET /v1/run/WEB/99", "", rw, 404},
		{"no number", "GET /v1/run/WEB/x", "", rw, 404},
		{"elsewhere", "GET /v1/suite/WEB", "", rw, 404},
		{"wrong method", "DELETE /v1/project", "", rw, 405},
		{"limit 0", "GET /v1/run/WEB?limit=0", "", rw, 422},
		{"limit 101", "GET /v1/run/WEB?limit=101", "", rw, 422},
		{"limit word", "GET /v1/run/WEB?limit=all", "", rw, 422},
		{"offset", "GET /v1/run/WEB?offset=-1", "", rw, 422},
		{"no title", "POST /v1/run/WEB", `{}`, rw, 422},
		{"long title", "POST /v1/run/WEB", `{"title":"` + strings.Repeat("x", 256) + `"}`, rw, 422},
		{"no JSON", "POST /v1/run/WEB", `title=x`, rw, 400},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := do(t, q, tc.line, tc.body, tc.header)
			body := decode(t, resp)
			if resp.StatusCode != tc.want || body["status"] != false || body["errorMessage"] == "" {
				t.Errorf("got %d %v, want %d", resp.StatusCode, body, tc.want)
			}
			if tc.want == 422 && body["errorFields"] == nil {
				t.Error("422 names no field")
			}
		})
	}
	if q.Runs() != 3 {
		t.Errorf("%d runs after refusals, want 3", q.Runs())
	}
}

func TestQaseLastNight(t *testing.T) {
	q, rw, _ := newQaseFixture()
	runs := decode(t, do(t, q, "GET /v1/run/WEB?limit=1", "", rw))["result"].(map[string]any)
	run := runs["entities"].([]any)[0].(map[string]any)
	if run["title"] != "Nightly 2026-05-04" || run["start_time"] != "2026-05-04 00:15:00" || run["status_text"] != "failed" {
		t.Errorf("run is %v", run)
	}
	stats := run["stats"].(map[string]any)["statuses"]
	if d := cmp.Diff(map[string]any{"passed": 36.0, "failed": 2.0, "skipped": 2.0}, stats); d != "" {
		t.Error(d)
	}
	if runs["total"] != 3.0 || runs["count"] != 1.0 || runs["filtered"] != 3.0 {
		t.Errorf("page is %v", runs)
	}
}

func TestQaseSameNightBeforeTheRunEnds(t *testing.T) {
	_, runs, _ := lastNight(time.Date(2026, 5, 4, 0, 30, 0, 0, time.UTC))
	if got := runs[2].Title; got != "Nightly 2026-05-03" {
		t.Errorf("at half past midnight the last run is %q", got)
	}
}

func TestQasePages(t *testing.T) {
	q, rw, _ := newQaseFixture()
	seen := 0
	for offset := range 5 {
		line := "GET /v1/result/WEB?run=3&limit=10&offset=" + []string{"0", "10", "20", "30", "40"}[offset]
		res := decode(t, do(t, q, line, "", rw))["result"].(map[string]any)
		seen += len(res["entities"].([]any))
		if res["filtered"] != 43.0 {
			t.Fatalf("filtered is %v, want 43", res["filtered"])
		}
	}
	if seen != 43 {
		t.Errorf("the pages hold %d results, want 43", seen)
	}
	past := decode(t, do(t, q, "GET /v1/result/WEB?offset=1000", "", rw))["result"].(map[string]any)
	if past["count"] != 0.0 || len(past["entities"].([]any)) != 0 {
		t.Errorf("past the end: %v", past)
	}
}

func TestQaseFilters(t *testing.T) {
	q, rw, _ := newQaseFixture()
	for line, want := range map[string]float64{
		"GET /v1/result/WEB?status=failed":         5,
		"GET /v1/result/WEB?status=failed,skipped": 7,
		"GET /v1/result/WEB?run=1":                 0,
		"GET /v1/run/WEB?status=passed":            2,
		"GET /v1/run/WEB?status=in_progress":       0,
	} {
		res := decode(t, do(t, q, line, "", rw))["result"].(map[string]any)
		if res["filtered"] != want {
			t.Errorf("%s: filtered %v, want %v", line, res["filtered"], want)
		}
	}
}

func TestQaseCreatesRun(t *testing.T) {
	q, rw, _ := newQaseFixture()
	got := decode(t, do(t, q, "POST /v1/run/WEB", `{"title":"by hand","description":"d"}`, rw))
	if d := cmp.Diff(map[string]any{"status": true, "result": map[string]any{"id": 4.0}}, got); d != "" {
		t.Error(d)
	}
	run := decode(t, do(t, q, "GET /v1/run/WEB/4", "", rw))["result"].(map[string]any)
	if run["title"] != "by hand" || run["status_text"] != "in_progress" || run["end_time"] != nil || run["description"] != "d" {
		t.Errorf("run is %v", run)
	}
}

func TestQaseProject(t *testing.T) {
	q, _, ro := newQaseFixture()
	list := decode(t, do(t, q, "GET /v1/project", "", ro))["result"].(map[string]any)
	one := decode(t, do(t, q, "GET /v1/project/WEB", "", ro))["result"]
	if d := cmp.Diff(list["entities"].([]any)[0], one); d != "" {
		t.Error(d)
	}
}

func TestQaseRateLimitAndRecord(t *testing.T) {
	q, rw, _ := newQaseFixture()
	q.LimitNext(1, time.Minute)
	resp := do(t, q, "GET /v1/project", "", rw)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "60" {
		t.Errorf("got %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	do(t, q, "GET /v1/project/WEB?x=1", "", rw)
	calls := q.Calls()
	if len(calls) != 2 || calls[0].Status != 429 || calls[1].Status != 200 || calls[1].Path != "/v1/project/WEB" {
		t.Fatalf("calls are %+v", calls)
	}
	if fp := calls[1].Fingerprint; !strings.HasPrefix(fp, "sha256:") || strings.Contains(rw, fp) {
		t.Errorf("fingerprint is %q", fp)
	}
}
