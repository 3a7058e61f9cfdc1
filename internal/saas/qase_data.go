// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package saas

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// The schemas below follow the OpenAPI description that Qase publishes
// (github.com/qase-tms/specs), with the members that a reader of runs and results uses.

type qaseProject struct {
	Title  string         `json:"title"`
	Code   string         `json:"code"`
	Counts map[string]any `json:"counts"`
}

type qaseRun struct {
	ID          int       `json:"id"`
	RunID       int       `json:"run_id"`
	Title       string    `json:"title"`
	Description *string   `json:"description"`
	Status      int       `json:"status"`
	StatusText  string    `json:"status_text"`
	StartTime   *qaseTime `json:"start_time"`
	EndTime     *qaseTime `json:"end_time"`
	Public      bool      `json:"public"`
	Stats       qaseStats `json:"stats"`
	TimeSpent   int64     `json:"time_spent"`   // ms
	ElapsedTime int64     `json:"elapsed_time"` // ms
	Environment *string   `json:"environment"`
	Milestone   *string   `json:"milestone"`
	Custom      []string  `json:"custom_fields"`
	Tags        []string  `json:"tags"`
	PlanID      *int      `json:"plan_id"`
}

type qaseStats struct {
	Total    int            `json:"total"`
	Statuses map[string]int `json:"statuses"`
	Untested int            `json:"untested"`
	Passed   int            `json:"passed"`
	Failed   int            `json:"failed"`
	Blocked  int            `json:"blocked"`
	Skipped  int            `json:"skipped"`
	Retest   int            `json:"retest"`
	Invalid  int            `json:"invalid"`
}

type qaseResult struct {
	Hash        string    `json:"hash"`
	ResultHash  string    `json:"result_hash"`
	Comment     *string   `json:"comment"`
	Stacktrace  *string   `json:"stacktrace"`
	RunID       int       `json:"run_id"`
	CaseID      int       `json:"case_id"`
	Steps       []string  `json:"steps"`
	Status      string    `json:"status"`
	APIResult   bool      `json:"is_api_result"`
	TimeSpent   int64     `json:"time_spent_ms"`
	EndTime     *qaseTime `json:"end_time"`
	Attachments []string  `json:"attachments"`
}

// qaseTime is written as Qase writes times: UTC, "2006-01-02 15:04:05".
type qaseTime time.Time

func (t qaseTime) MarshalText() ([]byte, error) {
	return []byte(time.Time(t).UTC().Format(time.DateTime)), nil
}

// Statuses of a run, by the number that stands beside the text.
const (
	runInProgress = 0
	runPassed     = 1
	runFailed     = 3
)

// The sample suite: how many cases it has and how long a night takes.
const (
	caseCount = 40
	runLength = 47 * time.Minute
)

// lastNight makes the sample project: two older runs without results, and the run of
// last night (00:15 to 01:02 UTC), in which cases 7 and 19 failed, 11, 23 and 31 failed
// once and passed when they were tried again, and 5 and 30 were skipped.
func lastNight(now time.Time) (qaseProject, []qaseRun, []qaseResult) {
	start := now.UTC().Truncate(24 * time.Hour).Add(15 * time.Minute)
	if now.Before(start.Add(runLength)) {
		start = start.AddDate(0, 0, -1) // tonight's run is not over yet
	}
	runs := []qaseRun{
		finish(nightly(1, start.AddDate(0, 0, -2)), runPassed, nil),
		finish(nightly(2, start.AddDate(0, 0, -1)), runPassed, nil),
	}
	results := sampleResults(3, start)
	runs = append(runs, finish(nightly(3, start), runFailed, results))
	return qaseProject{Title: "Web shop", Code: "WEB", Counts: map[string]any{
		"cases": caseCount, "suites": 4, "milestones": 0,
		"runs":    map[string]int{"total": len(runs), "active": 0},
		"defects": map[string]int{"total": 2, "open": 2},
	}}, runs, results
}

func nightly(id int, start time.Time) qaseRun {
	r := newRun(id, "Nightly "+start.Format(time.DateOnly), start)
	r.Tags = []string{"nightly"}
	return r
}

func newRun(id int, title string, start time.Time) qaseRun {
	at := qaseTime(start)
	return qaseRun{
		ID: id, RunID: id, Title: title,
		Status: runInProgress, StatusText: "in_progress", StartTime: &at,
		Stats:  qaseStats{Total: caseCount, Untested: caseCount, Statuses: map[string]int{}},
		Custom: []string{}, Tags: []string{},
	}
}

// finish closes a run with the last result of each case; no results: all passed.
func finish(r qaseRun, status int, results []qaseResult) qaseRun {
	end := qaseTime(time.Time(*r.StartTime).Add(runLength))
	r.Status, r.EndTime = status, &end
	r.StatusText = map[int]string{runPassed: "passed", runFailed: "failed"}[status]
	r.TimeSpent, r.ElapsedTime = runLength.Milliseconds(), runLength.Milliseconds()
	last := map[int]string{}
	for id := 1; id <= caseCount; id++ {
		last[id] = "passed"
	}
	for _, x := range results {
		last[x.CaseID] = x.Status
	}
	r.Stats = qaseStats{Total: caseCount, Statuses: map[string]int{}}
	for _, s := range last {
		r.Stats.Statuses[s]++
	}
	r.Stats.Passed, r.Stats.Failed, r.Stats.Skipped = r.Stats.Statuses["passed"], r.Stats.Statuses["failed"], r.Stats.Statuses["skipped"]
	return r
}

func sampleResults(run int, start time.Time) []qaseResult {
	outcomes := map[int][]string{
		5: {"skipped"}, 30: {"skipped"},
		7: {"failed"}, 19: {"failed"},
		11: {"failed", "passed"}, 23: {"failed", "passed"}, 31: {"failed", "passed"},
	}
	var all []qaseResult
	for id := 1; id <= caseCount; id++ {
		attempts := outcomes[id]
		if attempts == nil {
			attempts = []string{"passed"}
		}
		for _, status := range attempts {
			all = append(all, newResult(run, id, status, start.Add(time.Duration(len(all)+1)*time.Minute)))
		}
	}
	return all
}

func newResult(run, caseID int, status string, end time.Time) qaseResult {
	// Qase names results by 40 hex digits; this is a name, nothing secret hangs on it.
	sum := sha256.Sum256(fmt.Appendf(nil, "%d/%d/%s", run, caseID, status))
	at, hash := qaseTime(end), hex.EncodeToString(sum[:20])
	return qaseResult{
		Hash: hash, ResultHash: hash, RunID: run, CaseID: caseID, Status: status,
		Steps: []string{}, APIResult: true, TimeSpent: int64(400 + 37*caseID), EndTime: &at, Attachments: []string{},
	}
}
