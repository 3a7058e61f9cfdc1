// SPDX-FileCopyrightText: The egret authors
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// TreeCPU returns the CPU time of a process and of all its descendants, by pid: some
// servers work in processes that they fork. Compare two readings with Since.
func TreeCPU(pid int) (map[int]time.Duration, error) {
	out := make(map[int]time.Duration, 1)
	for _, p := range append([]int{pid}, descendants(pid)...) {
		d, err := ProcessCPU(p)
		switch {
		case err == nil:
			out[p] = d
		case p == pid:
			return nil, err
		}
	}
	return out, nil
}

// TreeMemory returns the resident memory of a process and of all its descendants, in
// bytes. Pages that they share count for each, which a difference of two readings does
// not show.
func TreeMemory(pid int) (int64, error) {
	total, err := Resident(pid)
	if err != nil {
		return 0, err
	}
	for _, p := range descendants(pid) {
		n, err := Resident(p)
		if err != nil {
			continue // it has just ended
		}
		total += n
	}
	return total, nil
}

// descendants lists the processes that a process has started, and those that these have.
func descendants(pid int) []int {
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		return nil
	}
	var out []int
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread has just ended
		}
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				out = append(append(out, child), descendants(child)...)
			}
		}
	}
	return out
}
