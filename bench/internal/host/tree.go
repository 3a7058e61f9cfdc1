// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"time"
)

// Since sums up what the processes of a tree have used since an earlier reading. One that
// was started in between counts from its start; one that has ended took its clock with
// it, and so is an error.
func Since(now, earlier map[int]time.Duration) (total time.Duration, err error) {
	for pid := range earlier {
		if _, ok := now[pid]; !ok {
			return 0, fmt.Errorf("process %d ended while it was measured", pid)
		}
	}
	for pid, d := range now {
		total += d - earlier[pid]
	}
	return total, nil
}
