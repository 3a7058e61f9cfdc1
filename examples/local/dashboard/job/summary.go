// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package job

import (
	"context"
	"fmt"
)

// page is a list as Qase answers it.
type page[T any] struct {
	Result struct {
		Filtered int
		Entities []T
	}
}

// summary counts test cases by how they ended. A case is flaky when it failed and then
// passed in the same run.
type summary struct{ passed, failed, flaky, skipped int }

func (s summary) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d flaky, %d skipped", s.passed, s.failed, s.flaky, s.skipped)
}

// summarise reads all results of a run, page by page.
func summarise(ctx context.Context, project string, run int) (summary, error) {
	const limit = 20
	attempts := map[int][]string{} // case: statuses, oldest first
	for offset := 0; ; offset += limit {
		var p page[struct {
			CaseID int `json:"case_id"`
			Status string
		}]
		url := fmt.Sprintf("%s/result/%s?run=%d&limit=%d&offset=%d", qase, project, run, limit, offset)
		if err := get(ctx, url, &p); err != nil {
			return summary{}, err
		}
		for _, r := range p.Result.Entities {
			attempts[r.CaseID] = append(attempts[r.CaseID], r.Status)
		}
		if offset+limit >= p.Result.Filtered {
			return count(attempts), nil
		}
	}
}

func count(attempts map[int][]string) summary {
	var s summary
	for _, statuses := range attempts {
		failedBefore := false
		for _, st := range statuses[:len(statuses)-1] {
			failedBefore = failedBefore || st == "failed"
		}
		switch last := statuses[len(statuses)-1]; {
		case last == "passed" && failedBefore:
			s.flaky++
		case last == "passed":
			s.passed++
		case last == "failed":
			s.failed++
		default:
			s.skipped++
		}
	}
	return s
}
